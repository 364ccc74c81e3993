package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Constants that several kernels use.
var (
	mask03 = constant32("mask03", 0x03030303)
	mask0C = constant32("mask0C", 0x0c0c0c0c)
	flipAA = constant32("flipAA", 0xaaaaaaaa)
	ones55 = constant32("ones55", 0x55555555)
	ones8  = constant32("ones8", 0x01010101)
	ones16 = constant32("ones16", 0x00010001)
	f127   = float32s("f127", 127)

	packOrder = words("packOrder", 0, 4, 1, 5, 2, 6, 3, 7) // puts the quarters of two packs in order
)

// words defines a global of 32-bit words.
func words(name string, values ...uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i, v := range values {
		DATA(4*i, U32(v))
	}
	return m
}

// constant32 defines eight equal 32-bit words as a global, float32s eight floats.
func constant32(name string, v uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(v))
	}
	return m
}

func float32s(name string, v float32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, F32(v))
	}
	return m
}
