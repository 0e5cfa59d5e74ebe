package pgcluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// initCluster makes data/ and the password file and returns the password. The
// rename comes last: whatever interrupts us leaves no cluster rather than half
// of one, and the next start begins again.
func initCluster(ctx context.Context, l *layout, bin binaries, durable bool) (string, error) {
	if old, _ := filepath.Glob(l.path("data.new-*")); old != nil {
		for _, dir := range old {
			_ = os.RemoveAll(dir)
		}
	}
	fresh, err := os.MkdirTemp(l.dir, "data.new-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // nothing is there after the rename
	if err := l.who.own(fresh); err != nil {
		return "", err
	}
	password := newPassword()
	pwfile, err := passwordFile(l, password)
	if err != nil {
		return "", err
	}
	defer func() { _ = pwfile.Close() }()
	dataDir, err := os.Open(fresh)
	if err != nil {
		return "", err
	}
	defer func() { _ = dataDir.Close() }()

	args := []string{
		"--pgdata=/proc/self/fd/3", "--username=" + superuser, "--pwfile=/proc/self/fd/4",
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions",
	}
	if !durable {
		args = append(args, "--no-sync")
	}
	cmd := command(l.who, bin, bin.initdb(), args...)
	cmd.ExtraFiles = []*os.File{dataDir, pwfile}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := spawn(cmd, syscall.SIGTERM)
	if err != nil {
		return "", fmt.Errorf("initdb: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.endInit()
		return "", fmt.Errorf("initdb: %w", ctx.Err())
	}
	if p.waitErr != nil {
		return "", fmt.Errorf("initdb: %w: %s", p.waitErr, tail(out.Bytes()))
	}
	if err := writeNew(l.path("password"), []byte(password+"\n")); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, l.data()); err != nil {
		return "", err
	}
	return password, syncDir(l.dir)
}

// passwordFile hands initdb the password in a file without a name.
func passwordFile(l *layout, password string) (*os.File, error) {
	f, err := os.CreateTemp(l.dir, ".pw-*")
	if err != nil {
		return nil, err
	}
	err = l.who.own(f.Name())
	if err == nil {
		_, err = f.WriteString(password + "\n")
	}
	if rm := os.Remove(f.Name()); err == nil {
		err = rm
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}
