package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"strings"
)

// reader is spec/tritread.py in a process of its own, or nobody.
type reader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// serve reads files, each after its length, and answers each with a line.
const serve = `
import io, struct, sys
sys.path.insert(0, sys.argv[1])
import tritread
while True:
    head = sys.stdin.buffer.read(8)
    if len(head) < 8:
        break
    data = sys.stdin.buffer.read(struct.unpack("<Q", head)[0])
    try:
        file = tritread.File(io.BytesIO(data))
        file.check()
        file.content()
        print("accepted", flush=True)
    except tritread.Refused as e:
        print(str(e).split(":")[0], flush=True)
`

func startReader(folder string) (*reader, error) {
	if folder == "" {
		return &reader{}, nil
	}
	r := &reader{cmd: exec.Command("python3", "-B", "-c", serve, folder)}
	r.cmd.Stderr = os.Stderr
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	return r, r.cmd.Start()
}

// judge returns what the reader says of a file, and nothing if it is nobody.
func (r *reader) judge(b []byte) (string, error) {
	if r.cmd == nil {
		return "", nil
	}
	if _, err := r.in.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...)); err != nil {
		return "", err
	}
	line, err := r.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (r *reader) close() {
	if r.cmd != nil {
		r.in.Close()
		_ = r.cmd.Wait()
	}
}

// disagree compares an outcome with what tritread.py says. It reads no
// tokenizer.json and knows no symmetry, so it may accept what fails for those.
func disagree(outcome, said string) bool {
	switch outcome {
	case unchanged, same, other:
		return said != "" && said != "accepted"
	case "tokenizer", finding:
		return false
	}
	return said == "accepted"
}
