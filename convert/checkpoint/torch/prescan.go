package torch

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Limits of a pickle. Real ones need some 40 operations and 2 kB a tensor.
const (
	maxOps   = 4 << 20   // operations
	maxMarks = 128       // marks that are open at once
	maxStack = 65_536    // values on the stack; picklers write batches of 1000
	maxMemo  = 1 << 20   // memo entries
	maxCost  = 128 << 20 // bytes: the pickle and what decoding it allocates
)

// A kind is what the pre-scan knows about a value.
type kind uint8

const (
	kUnset            kind = iota // a memo entry that was not written
	kNone                         // None
	kNumber                       // int, float or bool
	kString                       // str
	kBytes                        // bytes
	kTuple                        // tuple
	kList                         // list
	kDict                         // dict
	kSet                          // set
	kOrderedDictClass             // collections.OrderedDict
	kOrderedDict                  // an instance of it
	kFunc                         // a function that rebuilds something
	kClass                        // a class of inert objects
	kConst                        // an element type or a class of storages
	kObject                       // an inert object
	kStorage                      // what a persistent id stands for
	kOther                        // what a function returned
)

var kindNames = [...]string{"nothing", "None", "a number", "a string", "bytes", "a tuple", "a list", "a dict", "a set", "OrderedDict",
	"an OrderedDict", "a function", "a class", "a constant", "an object", "a storage", "a rebuilt value"}

// hashable reports whether Python takes such a value for a key.
func (k kind) hashable() bool {
	switch k {
	case kNone, kNumber, kString, kTuple, kClass, kConst, kObject:
		return true
	}
	return false
}

// A slot stands for a value on the stack or in the memo. Of a string and of
// bytes it holds where they lie, of a tuple how long it is, of a dict its place
// in the table of sizes.
type slot struct {
	kind  kind
	at, n uint32
}

// A scan is the state of a pre-scan: a run of the pickle machine in which
// values have a kind and nothing else.
type scan struct {
	*source
	where string // the record, for errors
	base  int64  // offset in the file of data[0]
	data  []byte
	pos   int
	op    int // where the operation begins
	ops   int
	cost  int64
	stack []slot
	marks []int
	memo  []slot
	put   int      // memo entries that were written
	sizes []uint32 // of the dicts
	// A frame (protocol 4) is a hint for reading ahead. The decoder does
	// without, and skips the operation at these places.
	frames   []int
	frameEnd int
}

// prescan checks the pickle at the beginning of data, which lies at base of the
// file in the named record, and returns its length and where its frames begin.
// A pickle that needs more than data holds gives the error of a length that is
// more than what is left. It takes time in proportion to the length, and
// memory for at most maxStack and maxMemo slots.
func prescan(src *source, where string, base int64, data []byte) (n int, frames []int, err error) {
	s := &scan{source: src, where: where, base: base, data: data}
	for {
		s.op = s.pos
		if s.pos == len(data) {
			return 0, nil, s.fail("its end", "the STOP operation before it", interrupted)
		}
		code := opcode(data[s.pos])
		s.pos++
		if s.ops++; s.ops > maxOps {
			return 0, nil, s.tooMuch("a further operation", maxOps)
		}
		if s.op == 0 && code != opProto {
			return 0, nil, s.fail(fmt.Sprintf("operation %#02x", byte(code)), "PROTO, protocol 2 or later", "")
		}
		if s.op < s.frameEnd && code == opFrame {
			return 0, nil, s.fail("a frame inside a frame", "frames one after the other", "")
		}
		if code == opStop {
			if len(s.marks) != 0 || len(s.stack) != 1 {
				return 0, nil, s.fail(fmt.Sprintf("STOP with %d values and %d marks on the stack", len(s.stack), len(s.marks)), "one value", "")
			}
			if s.pos < s.frameEnd {
				return 0, nil, s.fail("STOP inside a frame", "it at its end", "")
			}
			return s.pos, s.frames, nil
		}
		if err := s.step(code); err != nil {
			return 0, nil, err
		}
		if s.op < s.frameEnd && s.pos > s.frameEnd {
			return 0, nil, s.fail("an operation across the end of a frame", "whole operations in a frame", "")
		}
		if int64(len(data))+s.cost > maxCost {
			return 0, nil, s.tooMuch(fmt.Sprintf("%d bytes of memory after %d operations", s.cost, s.ops), maxCost)
		}
	}
}

func (s *scan) field() string { return fmt.Sprintf("%s: pickle byte %d", s.where, s.op) }

func (s *scan) fail(got, want, hint string) error {
	return s.wrong(s.base+int64(s.op), s.field(), got, want, hint)
}

func (s *scan) tooMuch(got string, limit int) error {
	return s.limit(s.base+int64(s.op), s.field(), got, fmt.Sprintf("at most %d", limit), "split the checkpoint into shards, or save without the optimizer")
}

// take returns the next n bytes.
func (s *scan) take(n uint64) ([]byte, error) {
	if left := len(s.data) - s.pos; n > uint64(left) {
		return nil, s.fail(fmt.Sprintf("a length of %d", n), fmt.Sprintf("at most %d, the bytes left", left), interrupted)
	}
	b := s.data[s.pos:][:n]
	s.pos += int(n)
	return b, nil
}

// length reads a length of so many bytes and takes what it counts.
func (s *scan) length(bytes int) (at, n uint32, err error) {
	b, err := s.take(uint64(bytes))
	if err != nil {
		return 0, 0, err
	}
	var v uint64
	for i := range b {
		v |= uint64(b[i]) << (8 * i)
	}
	at = uint32(s.pos)
	_, err = s.take(v)
	return at, uint32(v), err
}

// line takes the bytes up to the next newline, which it drops.
func (s *scan) line() (string, error) {
	rest := s.data[s.pos:]
	n := bytes.IndexByte(rest[:min(len(rest), MaxName+1)], '\n')
	if n < 0 {
		hint := ""
		if len(rest) <= MaxName {
			hint = interrupted
		}
		return "", s.fail("a name without its end", fmt.Sprintf("a newline after at most %d bytes", MaxName), hint)
	}
	s.pos += n + 1
	return string(rest[:n]), nil
}

func (s *scan) push(k kind, cost int64) error {
	return s.pushSlot(slot{kind: k}, cost)
}

func (s *scan) pushSlot(v slot, cost int64) error {
	if len(s.stack) == maxStack {
		return s.tooMuch("a further value on the stack", maxStack)
	}
	s.stack = append(s.stack, v)
	s.cost += cost
	return nil
}

// above returns the values above the last mark.
func (s *scan) above() []slot {
	if len(s.marks) == 0 {
		return s.stack
	}
	return s.stack[s.marks[len(s.marks)-1]:]
}

// pop takes n values off the stack; they stay valid until the next push.
func (s *scan) pop(n int) ([]slot, error) {
	if have := len(s.above()); have < n {
		return nil, s.fail(fmt.Sprintf("%d values on the stack", have), fmt.Sprintf("%d at least", n), "")
	}
	s.stack = s.stack[:len(s.stack)-n]
	return s.stack[len(s.stack) : len(s.stack)+n], nil
}

// popMark takes the values above the last mark, and the mark.
func (s *scan) popMark() ([]slot, error) {
	if len(s.marks) == 0 {
		return nil, s.fail("no mark on the stack", "one", "")
	}
	items := s.above()
	s.stack = s.stack[:len(s.stack)-len(items)]
	s.marks = s.marks[:len(s.marks)-1]
	return items, nil
}

// top returns the value on top, which must be of one of the kinds.
func (s *scan) top(want string, kinds ...kind) (*slot, error) {
	have := s.above()
	if len(have) == 0 {
		return nil, s.fail("no value on the stack", want, "")
	}
	v := &have[len(have)-1]
	for _, k := range kinds {
		if v.kind == k {
			return v, nil
		}
	}
	return nil, s.fail(kindNames[v.kind], want, "")
}

// add charges for values that are added to the container on top.
func (s *scan) add(items []slot) error {
	c, err := s.top("a list or an object", kList, kSet, kObject)
	if err != nil {
		return err
	}
	s.cost += 32 * int64(len(items))
	if c.kind == kSet {
		for _, v := range items {
			if err := s.key(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// key charges for the use of v as a key, which hashes all of it.
func (s *scan) key(v slot) error {
	if !v.kind.hashable() {
		return s.fail(kindNames[v.kind]+" as a key", "a key that Python can hash", "")
	}
	s.cost += 64
	if v.kind == kString {
		s.cost += int64(v.n)
	}
	return nil
}

// set charges for keys and values that are set in the container on top.
func (s *scan) set(items []slot) error {
	c, err := s.top("a dict or an object", kDict, kOrderedDict, kObject)
	if err != nil {
		return err
	}
	if len(items)%2 != 0 {
		return s.fail(fmt.Sprintf("%d keys and values", len(items)), "an even number", "")
	}
	each := int64(64)
	switch c.kind {
	case kOrderedDict:
		each = 240
	case kDict:
		s.sizes[c.n] += uint32(len(items) / 2)
	}
	for i := 0; i < len(items); i += 2 {
		if err := s.key(items[i]); err != nil {
			return err
		}
		s.cost += each
	}
	return nil
}

// store writes the value on top into the memo.
func (s *scan) store(index uint32) error {
	have := s.above()
	if len(have) == 0 {
		return s.fail("no value on the stack", "one for the memo", "")
	}
	if index >= maxMemo {
		return s.tooMuch(fmt.Sprintf("memo index %d", index), maxMemo)
	}
	for int(index) >= len(s.memo) {
		s.memo = append(s.memo, slot{})
	}
	if s.memo[index].kind == kUnset {
		s.put++
		s.cost += 64
	}
	s.memo[index] = have[len(have)-1]
	return nil
}

func (s *scan) load(index uint32) error {
	if uint64(index) >= uint64(len(s.memo)) || s.memo[index].kind == kUnset {
		return s.fail(fmt.Sprintf("memo entry %d, which was not written", index), "one that was", "")
	}
	return s.pushSlot(s.memo[index], 0)
}

// global pushes what module.name stands for, or refuses the name.
func (s *scan) global(module, name string) error {
	g, known, hostile := lookup(module, name)
	if known {
		return s.push(g.kind, 256)
	}
	got := "global " + tensor.Quote(module+"."+name)
	if hostile {
		return s.fail(got, "classes of tensors and of configurations only",
			"loading this file with PyTorch would run what it names: do not trust it")
	}
	return s.limit(s.base+int64(s.op), s.field(), got, "classes of tensors and of configurations only", "torch.save the model's state_dict() alone")
}

// call replaces a function and its arguments by what it returns.
func (s *scan) call() error {
	pair, err := s.pop(2)
	if err != nil {
		return err
	}
	f, args := pair[0], pair[1]
	if args.kind != kTuple {
		return s.fail("arguments that are "+kindNames[args.kind], "a tuple", "")
	}
	switch f.kind {
	case kOrderedDictClass:
		if args.n != 0 {
			return s.fail(fmt.Sprintf("an OrderedDict of %d arguments", args.n), "none", "")
		}
		return s.push(kOrderedDict, 256)
	case kFunc:
		return s.push(kOther, 256)
	case kClass:
		return s.push(kObject, 256)
	}
	return s.fail("a call of "+kindNames[f.kind], "a function or a class", "")
}

// build gives the object on top its state. An OrderedDict copies its state each
// time, so that is charged by its length.
func (s *scan) build() error {
	state, err := s.pop(1)
	if err != nil {
		return err
	}
	v := state[0]
	c, err := s.top("an object", kObject, kOrderedDict)
	if err != nil {
		return err
	}
	if c.kind == kObject {
		return nil
	}
	if v.kind != kDict {
		return s.fail("an OrderedDict with "+kindNames[v.kind]+" as its attributes", "a dict", "")
	}
	s.cost += 96 * int64(s.sizes[v.n])
	return nil
}

// create replaces a class and its arguments by an object.
func (s *scan) create(n int) error {
	parts, err := s.pop(n)
	if err != nil {
		return err
	}
	if parts[0].kind != kClass || parts[1].kind != kTuple {
		return s.fail("an object of "+kindNames[parts[0].kind]+" and "+kindNames[parts[1].kind], "of a class and a tuple", "")
	}
	return s.push(kObject, 256)
}

// text pushes a string, which must be UTF-8 as Python would insist, or bytes.
func (s *scan) text(k kind, lengthBytes int) error {
	at, n, err := s.length(lengthBytes)
	if err != nil {
		return err
	}
	if k == kString && !utf8.Valid(s.data[at:][:n]) {
		return s.fail("a string that is not UTF-8", "UTF-8", "")
	}
	return s.pushSlot(slot{k, at, n}, int64(n)+40)
}

// frame remembers a frame, whose length must be inside the data.
func (s *scan) frame() error {
	b, err := s.take(8)
	if err != nil {
		return err
	}
	n := le.Uint64(b)
	if left := uint64(len(s.data) - s.pos); n > left || n > math.MaxInt32 {
		return s.fail(fmt.Sprintf("a frame of %d bytes", n), fmt.Sprintf("at most %d, the bytes left", left), interrupted)
	}
	s.frames = append(s.frames, s.op)
	s.frameEnd = s.pos + int(n)
	s.cost += 16
	return nil
}
