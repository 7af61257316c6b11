# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the documentation's build; see build.sh."""

project = "Livebackup"
author = copyright = "The Livebackup authors"
extensions = ["sphinx_antsibull_ext"]
html_theme = "alabaster"
html_theme_options = {"description": "Backups of running QEMU VMs", "page_width": "70em"}
html_show_sphinx = False
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
nitpicky = False
# These labels are in Ansible's own documentation, which would have to be fetched.
suppress_warnings = ["ref.ref"]
