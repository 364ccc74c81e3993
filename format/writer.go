package format

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Writer writes one file. Tensors may be written from different goroutines at
// once, one goroutine for each TensorWriter; the other methods belong to one
// goroutine, and Finish and Preview come after every tensor. The same content
// gives the same bytes, whatever the order and number of goroutines.
//
// Nothing appears under the final name before Finish; until then there is a
// temporary file .NAME.tmp-RANDOM beside it, which Abort removes. Defer Abort:
// after Finish it does nothing.
type Writer struct {
	path, temp string
	f          *os.File
	out        io.WriterAt // f
	layout     *Layout
	tensors    []TensorWriter
	sections   map[string][]byte
	mu         sync.Mutex // guards done
	done       bool       // the temporary file is gone or renamed
}

// Create begins a file at path. An existing file stays as it is until Finish
// replaces it.
func Create(path string, layout *Layout) (*Writer, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file (%v), want the name of a file to write", path, st.Mode().Type())
	}
	dir, base := filepath.Split(path)
	temp := filepath.Join(dir, "."+base+".tmp-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		if folder := filepath.Dir(temp); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no folder %s for %s; make it, or name another file: %w", folder, path, fs.ErrNotExist)
		} else if pe, ok := errors.AsType[*fs.PathError](err); ok { // of a name that nobody chose
			err = fmt.Errorf("%s cannot be written: a file in its folder %s: %w", path, folder, pe.Err)
		}
		return nil, err
	}
	w := &Writer{path: path, temp: temp, f: f, out: f, layout: layout, sections: map[string][]byte{}}
	// What is not written later, padding, reads as zeros.
	if err := f.Truncate(layout.end); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	w.tensors = make([]TensorWriter, len(layout.tensors))
	for i := range w.tensors {
		w.tensors[i] = TensorWriter{w: w, info: layout.tensors[i]}
	}
	return w, nil
}

// Layout returns the layout that the file was created with.
func (w *Writer) Layout() *Layout { return w.layout }

// TensorWriter returns the writer of tensor i of the layout, always the same.
func (w *Writer) TensorWriter(i int) *TensorWriter { return &w.tensors[i] }

// SetSection sets the content of a section of the layout, once. data is
// copied. It must have 1 to MaxSection bytes, and be canonical for the JSON
// sections of this version, as EncodeJSON makes it.
func (w *Writer) SetSection(name string, data []byte) error {
	if !slices.Contains(w.layout.sections, name) {
		return fmt.Errorf("section %q is not in the layout, want one of %q", name, w.layout.sections)
	}
	if _, set := w.sections[name]; set {
		return fmt.Errorf("section %q is set a second time, want once", name)
	}
	if len(data) < 1 || len(data) > MaxSection {
		return fmt.Errorf("section %q has %d bytes, want 1..%d", name, len(data), MaxSection)
	}
	if isJSONSection(name) {
		if e := checkCanonical(data); e != nil {
			return fmt.Errorf("section %q: %w", name, e)
		}
	}
	w.sections[name] = bytes.Clone(data)
	return nil
}

// Preview opens what is written so far as a File: all tensors, which must be
// complete, and the sections that are set, which it serves from memory. Its
// header has no hash, no file length to rely on, and no places of sections. It
// serves to compute a section, such as the self-test, from the file itself;
// the caller closes it, before or after Finish.
func (w *Writer) Preview() (*File, error) {
	h := &Header{Major: Major, Minor: Minor, FileLength: w.layout.end, HeaderLength: w.layout.header}
	var err error
	if h.Tensors, err = w.complete(); err != nil {
		return nil, err
	}
	for _, name := range w.layout.sections {
		if data, set := w.sections[name]; set {
			h.Sections = append(h.Sections, Section{Name: name, Length: int64(len(data)), SHA256: sha256.Sum256(data)})
		}
	}
	f, err := openMapped(w.f, h, w.layout.end)
	if err != nil {
		return nil, err
	}
	f.held = map[string][]byte{}
	for name, data := range w.sections {
		f.held[name] = data
	}
	return f, nil
}

// complete returns all tensors with their hashes, or the first error of a
// writer, or the first tensor that lacks something.
func (w *Writer) complete() ([]TensorInfo, error) {
	for i := range w.tensors {
		if err := w.tensors[i].err; err != nil {
			return nil, err
		}
	}
	list := make([]TensorInfo, len(w.tensors))
	for i := range w.tensors {
		t := &w.tensors[i]
		if t.pos != t.info.Length {
			return nil, fmt.Errorf("tensor %s is incomplete: %d bytes written, want %d", t.info.Name, t.pos+int64(t.used), t.info.Length)
		}
		if t.info.ScaleLength > 0 && !t.scaled {
			return nil, fmt.Errorf("tensor %s has no scales yet, want %d", t.info.Name, t.info.ScaleLength/4)
		}
		list[i] = t.info
	}
	return list, nil
}

// Finish writes sections, directory and prelude, syncs the file, renames it to
// its final name and syncs the folder. It fails, and removes the temporary
// file, if a tensor is incomplete, a section is missing, or the system fails;
// then whatever stood under the final name stands there still, unless syncing
// the folder is all that failed.
func (w *Writer) Finish() error {
	if err := w.finish(); err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

func (w *Writer) finish() error {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	if done {
		return fmt.Errorf("%s: Finish after Finish or Abort", w.path)
	}
	h := &Header{Major: Major, Minor: Minor, HeaderLength: w.layout.header}
	var err error
	if h.Tensors, err = w.complete(); err != nil {
		return err
	}
	var missing []string
	end := w.layout.end
	for _, name := range w.layout.sections {
		data, set := w.sections[name]
		if !set {
			missing = append(missing, name)
			continue
		}
		s := Section{Name: name, Offset: alignUp(end), Length: int64(len(data)), SHA256: sha256.Sum256(data)}
		if _, err := w.out.WriteAt(data, s.Offset); err != nil {
			return err
		}
		end = s.Offset + s.Length
		h.Sections = append(h.Sections, s)
	}
	if missing != nil {
		return fmt.Errorf("%s: the sections %s are in the layout and not set", w.path, strings.Join(missing, ", "))
	}
	h.FileLength = end
	if _, err := w.out.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	return w.publish()
}

// publish gives the file its final name.
func (w *Writer) publish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return fmt.Errorf("%s: Abort during Finish", w.path)
	}
	if err := w.f.Close(); err != nil {
		return err
	}
	if err := os.Rename(w.temp, w.path); err != nil {
		return err
	}
	w.done = true
	return syncDir(filepath.Dir(w.path))
}

// Abort gives the file up and removes the temporary file. After Finish, or a
// second time, it does nothing. It may be called while tensors are being
// written; their writers then fail.
func (w *Writer) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	w.done = true
	closeErr := w.f.Close()
	if errors.Is(closeErr, os.ErrClosed) {
		closeErr = nil
	}
	return errors.Join(closeErr, os.Remove(w.temp))
}
