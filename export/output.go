package export

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
)

// temporary returns a name beside path that nothing else uses.
func temporary(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+".tmp-"+rand.Text())
}

// writeFile writes the file at path: fill writes it under another name, and only a
// complete and synced one gets this one. An existing file is replaced.
func writeFile(path string, fill func(f *os.File) error) (err error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file (%v), want the name of a file to write", path, st.Mode().Type())
	}
	temp := temporary(path)
	if err := createSynced(temp, fill); err != nil {
		return errors.Join(err, removed(os.Remove(temp)))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// createSynced writes a new file and syncs it.
func createSynced(path string, fill func(f *os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removed is the error of a removal, nil when there was nothing to remove.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// writeFolder writes the folder dir, which does not exist or is empty, in the way
// of writeFile.
func writeFolder(dir string, fill func(temp string) error) error {
	dir = filepath.Clean(dir)
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s: the folder has %d entries, such as %s; want an empty or a new one, so that no file of another model is mixed in", dir, len(entries), entries[0].Name())
	}
	temp := temporary(dir)
	if err := os.Mkdir(temp, 0o777); err != nil {
		return err
	}
	err := fill(temp)
	if err == nil {
		err = syncDir(temp)
	}
	if err == nil {
		err = removed(os.Remove(dir)) // fails if something appeared in it
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return syncDir(filepath.Dir(dir))
}

// syncDir makes a rename inside the folder durable, where a system can.
func syncDir(dir string) error {
	if goruntime.GOOS == "windows" {
		return nil // folders cannot be opened for that
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
