# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A guest in one boot sector: it says on its serial port and its display what is in the second sector of its disk, up
# to the first zero byte. Then it writes a sector in each of so many blocks of 64 KiB as the sector's last two bytes
# say, and rests.
.intel_syntax noprefix
.code16
.globl _start
_start:
  cli
  xor ax, ax
  mov ds, ax
  mov es, ax
  mov ss, ax
  mov sp, 0x7c00
  cld
  mov dl, 0x80
  mov si, offset packet
  mov ah, 0x42
  int 0x13
  jc rest
  mov si, 0x8000
say:
  lodsb
  test al, al
  jz written
  mov bl, al
ready:
  mov dx, 0x3fd
  in al, dx
  test al, 0x20
  jz ready
  mov al, bl
  mov dx, 0x3f8
  out dx, al
  mov ah, 0x0e
  mov bx, 7
  int 0x10
  jmp say
written:
  mov cx, [0x8000 + 510]
  jcxz rest
  add dword ptr [lba], 128
  mov dl, 0x80
  mov si, offset packet
  mov ax, 0x4300
  int 0x13
  dec word ptr [0x8000 + 510]
  jmp written
rest:
  sti
  hlt
  jmp rest

packet:
  .byte 16, 0
  .word 1
  .word 0x8000, 0
lba:
  .long 1, 0
  .org 510
  .word 0xaa55
