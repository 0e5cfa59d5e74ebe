package pgtest

import (
	"io"
	"os/exec"
	"syscall"
)

// reaper removes the cluster's folder after this process, also when that
// panicked or was killed: no hook of ours runs then, but the pipe to a waiting
// shell closes. PostgreSQL itself gets the death signal.
type reaper struct {
	dir  string
	cmd  *exec.Cmd
	pipe io.Closer
}

// The shell gives a dying server a moment, for it still makes files; what is
// left after ten tries stays.
const reaperScript = `cat >/dev/null
n=0; while [ -e "$1" ] && [ $n -lt 10 ]; do rm -rf "$1" 2>/dev/null; n=$((n+1)); [ -e "$1" ] && sleep 0.2; done`

func startReaper(dir string) (*reaper, error) {
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "reaper", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &reaper{dir, cmd, pipe}, nil
}

// finish lets it work now and waits for it.
func (r *reaper) finish() {
	_ = r.pipe.Close()
	_ = r.cmd.Wait()
}
