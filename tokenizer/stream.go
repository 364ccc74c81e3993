package tokenizer

import "fmt"

// Stream decodes ids as they come. It is not safe for concurrent use; any
// number of streams of one tokenizer are.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	sink        *sink
	head        stage
}

// NewStream begins to decode a sequence of ids. skipSpecial leaves special
// tokens out.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial, sink: &sink{}}
	if !t.hasDecoder {
		s.sink.separator = " "
	}
	s.head = s.sink
	fail := func(err error) {
		if s.sink.err == nil {
			s.sink.err = err
		}
	}
	for i := len(t.decoders) - 1; i >= 0; i-- {
		s.head = t.decoders[i](s.head, fail)
	}
	return s
}

// Push takes the next id and returns the text that became certain: whatever
// ids follow, the texts of all calls and of Flush, one after the other, are
// what Decode gives for all ids. It never returns part of a UTF-8 character,
// and "" where nothing is certain yet: inside a character and, under
// ByteFallback, throughout a run of byte tokens, since a later one can spoil
// all of it.
//
// An id without a token adds nothing, and so does one at or above VocabSize,
// because the vocabulary of a model is often padded. A negative id is an
// error and leaves the stream as it was, and a decoder whose regular
// expression times out is one.
func (s *Stream) Push(id int) (string, error) {
	if id < 0 {
		return "", fmt.Errorf("tokenizer: token id %d, want 0 or more", id)
	}
	s.push(id)
	return s.sink.take(), s.sink.err
}

func (s *Stream) push(id int) {
	if id >= len(s.t.tokens) || s.t.flags[id]&present == 0 || s.skipSpecial && s.t.flags[id]&skipped != 0 {
		return
	}
	token, ok := s.t.respelled[id]
	if !ok {
		token = s.t.tokens[id]
	}
	s.head.text(token)
	s.head.end()
}

// Flush returns the text that was held back, U+FFFD in the place of a
// character that never ended, and makes the stream ready for a new sequence.
func (s *Stream) Flush() string {
	s.head.finish()
	return s.sink.take()
}
