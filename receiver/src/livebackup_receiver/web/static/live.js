// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Says when the page is no longer live, and keeps opened details open when htmx replaces a section.
"use strict";

const showLost = (lost) => { document.querySelector(".lost").hidden = !lost; };
for (const name of ["htmx:sseError", "htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, () => showLost(true));
}
for (const name of ["htmx:sseOpen", "htmx:afterOnLoad"]) {
  document.addEventListener(name, () => showLost(false));
}

const opened = new Set();
document.addEventListener("toggle", (event) => {
  if (!event.target.isConnected) return;
  if (event.target.open) opened.add(event.target.id); else opened.delete(event.target.id);
}, true);
document.addEventListener("htmx:afterSwap", (event) => {
  for (const details of event.target.querySelectorAll("details")) details.open = opened.has(details.id);
});
