package torch

import "fmt"

// An opcode is an operation of the pickle machine (Python's pickletools).
type opcode byte

// The operations that picklers of protocol 2 to 5 write for data. Those that
// only other programs write (text forms, POP, DUP, extension codes, buffers
// outside of the stream, integers above 64 bits) are refused.
const (
	opProto           opcode = 0x80
	opStop            opcode = '.'
	opMark            opcode = '('
	opNone            opcode = 'N'
	opTrue            opcode = 0x88
	opFalse           opcode = 0x89
	opInt             opcode = 'J'
	opInt1            opcode = 'K'
	opInt2            opcode = 'M'
	opLong1           opcode = 0x8a
	opFloat           opcode = 'G'
	opString          opcode = 'T' // of Python 2
	opShortString     opcode = 'U'
	opUnicode         opcode = 'X'
	opShortUnicode    opcode = 0x8c
	opUnicode8        opcode = 0x8d
	opBytes           opcode = 'B'
	opShortBytes      opcode = 'C'
	opEmptyTuple      opcode = ')'
	opTuple           opcode = 't'
	opTuple1          opcode = 0x85
	opTuple2          opcode = 0x86
	opTuple3          opcode = 0x87
	opEmptyList       opcode = ']'
	opAppend          opcode = 'a'
	opAppends         opcode = 'e'
	opEmptyDict       opcode = '}'
	opSetItem         opcode = 's'
	opSetItems        opcode = 'u'
	opEmptySet        opcode = 0x8f
	opAddItems        opcode = 0x90
	opPut             opcode = 'q'
	opLongPut         opcode = 'r'
	opMemoize         opcode = 0x94
	opGet             opcode = 'h'
	opLongGet         opcode = 'j'
	opGlobal          opcode = 'c'
	opStackGlobal     opcode = 0x93
	opReduce          opcode = 'R'
	opNewObj          opcode = 0x81
	opNewObjEx        opcode = 0x92
	opBuild           opcode = 'b'
	opPersistent      opcode = 'Q'
	opFrame           opcode = 0x95
	lowestProtocol           = 2
	highestProtocol          = 5
	longestLong              = 8
	persistentIDParts        = 5
)

// step follows one operation.
func (s *scan) step(code opcode) error {
	switch code {
	case opNone:
		return s.push(kNone, 0)
	case opTrue, opFalse:
		return s.push(kNumber, 0)
	case opInt, opInt1, opInt2, opFloat, opLong1:
		return s.number(code)
	case opString, opUnicode:
		return s.text(kString, 4)
	case opShortString, opShortUnicode:
		return s.text(kString, 1)
	case opUnicode8:
		return s.text(kString, 8)
	case opBytes:
		return s.text(kBytes, 4)
	case opShortBytes:
		return s.text(kBytes, 1)
	case opPut, opLongPut, opMemoize, opGet, opLongGet:
		return s.memory(code)
	case opGlobal, opStackGlobal:
		return s.named(code)
	case opReduce:
		return s.call()
	case opNewObj:
		return s.create(2)
	case opNewObjEx:
		return s.create(3)
	case opFrame:
		return s.frame()
	case opProto:
		b, err := s.take(1)
		if err == nil && (s.op != 0 || b[0] < lowestProtocol || b[0] > highestProtocol) {
			err = s.fail(fmt.Sprintf("PROTO %d", b[0]), fmt.Sprintf("a protocol from %d to %d, once", lowestProtocol, highestProtocol), "")
		}
		return err
	}
	return s.stepContainer(code)
}

// stepContainer follows the operations that make and fill containers.
func (s *scan) stepContainer(code opcode) error {
	switch code {
	case opMark:
		if len(s.marks) == maxMarks {
			return s.tooMuch("a further open mark", maxMarks)
		}
		s.marks = append(s.marks, len(s.stack))
		s.cost += 256
		return nil
	case opEmptyTuple:
		return s.push(kTuple, 40)
	case opTuple1, opTuple2, opTuple3:
		n := int(code-opTuple1) + 1
		if _, err := s.pop(n); err != nil {
			return err
		}
		return s.pushSlot(slot{kind: kTuple, n: uint32(n)}, 80)
	case opTuple:
		items, err := s.popMark()
		if err != nil {
			return err
		}
		return s.pushSlot(slot{kind: kTuple, n: uint32(len(items))}, 24+32*int64(len(items)))
	case opEmptyList:
		return s.push(kList, 96)
	case opEmptySet:
		return s.push(kSet, 160)
	case opEmptyDict:
		s.sizes = append(s.sizes, 0)
		return s.pushSlot(slot{kind: kDict, n: uint32(len(s.sizes) - 1)}, 160)
	case opAppend:
		item, err := s.pop(1)
		if err != nil {
			return err
		}
		if _, err := s.top("a list or an object", kList, kObject); err != nil {
			return err
		}
		return s.add(item)
	case opAppends, opAddItems, opSetItems:
		items, err := s.popMark()
		if err != nil {
			return err
		}
		if code == opSetItems {
			return s.set(items)
		}
		want, k := "a list or an object", kList
		if code == opAddItems {
			want, k = "a set or an object", kSet
		}
		if _, err := s.top(want, k, kObject); err != nil {
			return err
		}
		return s.add(items)
	case opSetItem:
		pair, err := s.pop(2)
		if err != nil {
			return err
		}
		return s.set(pair)
	case opBuild:
		return s.build()
	case opPersistent:
		id, err := s.pop(1)
		if err != nil {
			return err
		}
		if id[0].kind != kTuple || id[0].n < persistentIDParts {
			return s.fail("a persistent id that is "+kindNames[id[0].kind], "(\"storage\", class, key, location, count)", "")
		}
		return s.push(kStorage, 256)
	}
	return s.fail(fmt.Sprintf("operation %#02x", byte(code)), "one that torch.save writes", "")
}

func (s *scan) number(code opcode) error {
	var n uint64
	switch code {
	case opInt1:
		n = 1
	case opInt2:
		n = 2
	case opInt:
		n = 4
	case opFloat:
		n = 8
	case opLong1:
		b, err := s.take(1)
		if err != nil {
			return err
		}
		if n = uint64(b[0]); n < 1 || n > longestLong {
			return s.fail(fmt.Sprintf("an integer of %d bytes", n), fmt.Sprintf("1 to %d", longestLong), "")
		}
	}
	if _, err := s.take(n); err != nil {
		return err
	}
	return s.push(kNumber, 8)
}

// memory follows the operations of the memo.
func (s *scan) memory(code opcode) error {
	if code == opMemoize {
		return s.store(uint32(s.put))
	}
	n := uint64(1)
	if code == opLongPut || code == opLongGet {
		n = 4
	}
	b, err := s.take(n)
	if err != nil {
		return err
	}
	index := uint32(b[0])
	if n == 4 {
		index = le.Uint32(b)
	}
	if code == opGet || code == opLongGet {
		return s.load(index)
	}
	return s.store(index)
}

// named follows the operations that name a global.
func (s *scan) named(code opcode) error {
	if code == opGlobal {
		module, err := s.line()
		if err != nil {
			return err
		}
		name, err := s.line()
		if err != nil {
			return err
		}
		return s.global(module, name)
	}
	pair, err := s.pop(2)
	if err != nil {
		return err
	}
	for _, v := range pair {
		if v.kind != kString || v.n > MaxName {
			return s.fail("a global named by "+kindNames[v.kind], fmt.Sprintf("two strings of at most %d bytes", MaxName), "")
		}
	}
	str := func(v slot) string { return string(s.data[v.at:][:v.n]) }
	return s.global(str(pair[0]), str(pair[1]))
}
