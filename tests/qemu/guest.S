# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A guest in one boot sector. With every timer tick it makes some rounds: each counts up by one and writes, to
# one disk after the other, a 4 KiB block somewhere that is full of the count, and then the count to sector 0.
# So at any instant sector 0 of a disk holds what the next disk's holds, or one more. A write that fails puts the
# letter E on the serial port. Four bytes that come over the serial port are a count after which one more round
# is made, and an A answers them.
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
  mov word ptr [4 * 0x0c], offset received
  mov word ptr [4 * 0x0c + 2], 0
  mov dx, 0x3f9                 # the port interrupts when a byte has come
  mov al, 1
  out dx, al
  mov dx, 0x3fc
  mov al, 0x0b
  out dx, al
  in al, 0x21
  and al, 0xef
  out 0x21, al
  sti
tick:
  hlt                           # a byte that came just before is seen at the next tick
  mov byte ptr [asked], 0
  mov dx, 0x3fd
  in al, dx
  test al, 1
  jz rest
  mov byte ptr [asked], 1
  mov di, offset count
  mov cx, 4
receive:
  mov dx, 0x3fd
  in al, dx
  test al, 1
  jz receive
  mov dx, 0x3f8
  in al, dx
  stosb
  loop receive
rest:
  movzx cx, byte ptr [asked]
  or cl, [rounds]
  jcxz tick
round:
  push cx
  inc dword ptr [count]
  mov eax, [count]
  mov di, 0x1000
  mov cx, 1024
  rep stosd
  mov dl, 0x81                  # 0x80 is the boot disk
disk:
  mov eax, [count]
  imul eax, eax, 0x9e3779b1     # scatters the blocks
  shr eax, 8
  and eax, [block_mask]
  shl eax, 3
  add eax, 8
  mov [lba], eax
  mov word ptr [sectors], 8
  call write
  mov dword ptr [lba], 0
  mov word ptr [sectors], 1
  call write
  inc dl
  mov al, dl
  sub al, 0x81
  cmp al, [disks]
  jb disk
  pop cx
  loop round
  cmp byte ptr [asked], 0
  je tick
  mov dx, 0x3f8
  mov al, 'A'
  out dx, al
  jmp tick

received:
  push ax
  mov al, 0x20
  out 0x20, al
  pop ax
  iret

write:
  pushad
  mov si, offset packet
  mov ax, 0x4300
  int 0x13
  jnc written
  mov dx, 0x3f8
  mov al, 'E'
  out dx, al
written:
  popad
  ret

.align 4
packet:  .byte 16, 0
sectors: .word 8
         .word 0x1000, 0
lba:     .long 0, 0
count:   .long 0
asked:   .byte 0

# patched by guest.py
.org 496
disks:      .byte 2
rounds:     .byte 8
.org 500
block_mask: .long 8191
.org 510
.byte 0x55, 0xaa
