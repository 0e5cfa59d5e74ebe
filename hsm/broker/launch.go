package broker

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

// launcher starts processes from one thread that has given up what a worker must
// not have; what belongs to a thread is inherited by what it starts.
type launcher struct {
	log    *slog.Logger
	jobs   chan func()
	ended  chan struct{}
	warned sync.Map // what a worker lacks is said once

	noNamespace atomic.Bool // a network namespace was refused
}

func newLauncher(c *Config, log *slog.Logger) *launcher {
	n := &launcher{log: log, jobs: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		for _, m := range giveUp(c) {
			n.warn(m)
		}
		for f := range n.jobs {
			f()
		}
	}()
	return n
}

func (n *launcher) warn(missing string) {
	if _, again := n.warned.LoadOrStore(missing, true); !again {
		n.log.Warn("hsm: this machine does not let workers be confined in one respect", slog.String("missing", missing))
	}
}

// start starts a process; the files are closed here afterwards.
func (n *launcher) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	n.jobs <- func() { result <- cmd.Start() }
	return <-result
}

func (n *launcher) close() {
	close(n.jobs)
	<-n.ended
}

// lastWords bounds the reading of what a dead worker left in its socket; it takes
// that long only when somebody else holds the other end.
const lastWords = time.Second

// inherited are the variables of our environment that a worker gets. What the
// module reads from its environment stands in the configuration.
var inherited = []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "GODEBUG", "GORACE", "GOCOVERDIR"}

// launch starts the process of a worker and the goroutines that listen to it.
func (b *Broker) launch(s *seat) (*link, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, err
	}
	unix := conn.(*net.UnixConn)
	out, err := wire.NewWriter(unix)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	defer w.Close()
	cmd, err := b.execute(func() *exec.Cmd {
		argv := b.config.Command
		cmd := exec.Command(argv[0], append(append([]string(nil), argv[1:]...), string(s.role))...)
		cmd.Args[0] = "signet"
		cmd.Env = []string{}
		for _, k := range inherited {
			if v, has := os.LookupEnv(k); has {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
		}
		cmd.ExtraFiles = []*os.File{theirs}
		cmd.Stdout, cmd.Stderr = w, w
		return cmd
	})
	if err != nil {
		_ = conn.Close()
		_ = r.Close()
		return nil, err
	}
	l := &link{
		number: int(b.count.Add(1)), seat: s.number, cmd: cmd, conn: unix, out: out, born: time.Now(), calls: map[uint64]*call{},
		ready: make(chan wire.Frame, 1), logins: make(chan hsm.Failure, 1), gone: make(chan struct{}), ended: make(chan struct{}),
	}
	b.watchOver(l, nil)
	var listeners sync.WaitGroup
	listeners.Go(func() {
		l.hangUp(l.read(b))
		b.remove(l)
		l.close()
	})
	listeners.Go(func() { b.listen(l, r) })
	b.wg.Go(func() { // the link's owner: it ends when nothing is left
		err := cmd.Wait()
		l.exit = cmd.ProcessState.String()
		if err != nil && cmd.ProcessState.Success() {
			l.exit = err.Error()
		}
		// What it said last is still in the socket, above all why it did not start.
		_ = l.conn.SetReadDeadline(time.Now().Add(lastWords))
		close(l.gone)
		listeners.Wait()
		_ = l.conn.Close()
		l.out.Wait()
		close(l.ended)
	})
	return l, nil
}

// execute starts a process as confined as this machine allows.
func (b *Broker) execute(build func() *exec.Cmd) (*exec.Cmd, error) {
	for {
		cmd := build()
		fallback, err := b.config.confine(cmd, b.launcher)
		if err == nil {
			err = b.launcher.start(cmd)
		}
		if err == nil || !fallback(err) {
			return cmd, err
		}
	}
}

// hangUp decides what becomes of a process whose conversation ended.
func (l *link) hangUp(err error) {
	if errors.Is(err, wire.ErrProtocol) {
		l.kill(err.Error())
		return
	}
	time.AfterFunc(exitWithin, func() { l.kill("it hung up and did not end") })
}
