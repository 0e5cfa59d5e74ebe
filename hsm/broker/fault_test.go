package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// load runs f from n goroutines until stop is called, which returns how often it
// was called and the errors.
func load(n int, f func(context.Context) error) (stop func() (int, []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  atomic.Int64
		errs []error
	)
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				all.Add(1)
				call, end := context.WithTimeout(context.Background(), 20*time.Second)
				if err := f(call); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				end()
			}
		})
	}
	return func() (int, []error) {
		cancel()
		wg.Wait()
		return int(all.Load()), errs
	}
}

func long() bool { return os.Getenv("SIGNET_LONG") != "" }

// A worker killed under load: no caller sees it, and the next signature is there
// at once.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	kills := 6
	if long() {
		kills = 50
	}
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			tok, b, _ := open(t, softhsmtest.Create(t), func(c *broker.Config) { c.Workers = workers })
			sign := signer(t, tok)
			var good atomic.Int64
			stop := load(4, func(ctx context.Context) error {
				err := sign(ctx)
				if err == nil {
					good.Add(1)
				}
				return err
			})
			var gaps []time.Duration
			for i := range kills {
				require.Eventually(t, func() bool { return len(b.Workers()) == workers }, 20*time.Second, time.Millisecond)
				time.Sleep(300 * time.Millisecond)
				pids := b.Workers()
				before, start := good.Load(), time.Now()
				require.NoError(t, syscall.Kill(pids[i%len(pids)], syscall.SIGKILL))
				for good.Load() < before+4+1 { // those on their way may have been answered before
					require.Less(t, time.Since(start), 20*time.Second, "no signature after kill %d", i)
					time.Sleep(100 * time.Microsecond)
				}
				gaps = append(gaps, time.Since(start))
			}
			n, errs := stop()
			require.Empty(t, errs, "of %d", n)
			slices.Sort(gaps)
			t.Logf("%d kills, %d signatures, none failed; next good signature after p50 %v, worst %v", kills, n, gaps[len(gaps)/2], gaps[len(gaps)-1])
		})
	}
}

// A call that kills every worker it meets is given up, and others go on.
func TestPoisonIsGivenUp(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	tok, _, _ := open(t, st)
	sign := signer(t, tok)
	f := m.Inject(faultmodule.Rule{On: "C_SignInit", Do: faultmodule.Segfault})
	start := time.Now()
	err := sign(t.Context())
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Less(t, time.Since(start), 30*time.Second)
	require.LessOrEqual(t, f.Hits(), 4)
	f.Stop()
	// The proof at each start signs as well, so the poison kept workers from starting.
	require.Eventually(t, func() bool { return sign(t.Context()) == nil }, 30*time.Second, 10*time.Millisecond)
}

// A worker that is stopped as a whole is found by the sign of life it owes.
func TestStoppedWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	tok, b, _ := open(t, softhsmtest.Create(t), func(c *broker.Config) { c.HSM.Hang = 500 * time.Millisecond })
	sign := signer(t, tok)
	stop := func() []int {
		pids := b.Workers()
		for _, pid := range pids {
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			require.Eventually(t, func() bool { return isStopped(pid) }, 10*time.Second, time.Millisecond)
		}
		return pids
	}
	stopped := stop()
	start := time.Now()
	require.NoError(t, sign(t.Context()))
	require.Less(t, time.Since(start), 10*time.Second)

	require.Eventually(t, func() bool {
		now := b.Workers()
		return len(now) == 2 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(stopped, pid) })
	}, 20*time.Second, time.Millisecond)
	stopped = stop()
	defer func() {
		for _, pid := range stopped { // Close waits long for a worker that could still end well
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := sign(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a caller waits no longer than it said")
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// isStopped reports whether every thread of a process is; the kernel tells one of
// them first.
func isStopped(pid int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return err == nil && len(tasks) > 0 && !slices.ContainsFunc(tasks, func(file string) bool {
		stat, err := os.ReadFile(file)
		return err == nil && !strings.Contains(string(stat), ") T ")
	})
}

// 3,000 signatures while sessions and logins are lost for real: all good.
func TestLostSessionsAndLogins(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	tok, _, _ := open(t, st)
	sign := signer(t, tok)
	m.Inject(faultmodule.Rule{On: "C_SignInit", Chance: 0.004, Seed: 1, Do: faultmodule.CloseAll})
	m.Inject(faultmodule.Rule{On: "C_SignInit", Chance: 0.004, Seed: 2, Do: faultmodule.Logout})
	const callers, each = 4, 750
	var wg sync.WaitGroup
	bad := make(chan error, callers*each)
	for range callers {
		wg.Go(func() {
			for range each {
				if err := sign(t.Context()); err != nil {
					bad <- err
				}
			}
		})
	}
	wg.Wait()
	close(bad)
	var errs []error
	for err := range bad {
		errs = append(errs, err)
	}
	require.Empty(t, errs, "%d of %d failed", len(errs), callers*each)
}

// However many workers there are, a wrong PIN is tried once.
func TestWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	c := broker.Config{HSM: st.HSM(), Role: worker.RoleUse, Workers: 4}
	c.HSM.PIN = func(context.Context) (secret.Bytes, error) { return secret.New([]byte("wrong-9876")), nil }
	j := &journal{}
	c.HSM.Logger = j.logger()
	_, err := broker.Open(t.Context(), c)
	require.ErrorIs(t, err, hsm.ErrPIN)
	require.Equal(t, 1, m.Calls("C_Login"))
	require.NotContains(t, j.String()+err.Error(), "wrong-9876")
}

// The PIN is changed under workers that serve: one attempt, then nobody tries, and
// those that are logged in go on.
func TestPINChangedLater(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	var wrong atomic.Bool
	tok, b, j := open(t, st, func(c *broker.Config) {
		right := c.HSM.PIN
		c.HSM.PIN = func(ctx context.Context) (secret.Bytes, error) {
			if wrong.Load() {
				return secret.New([]byte("wrong-9876")), nil
			}
			return right(ctx)
		}
	})
	sign := signer(t, tok)
	wrong.Store(true)
	before := m.Calls("C_Login")
	require.NoError(t, syscall.Kill(b.Workers()[0], syscall.SIGKILL))
	require.Eventually(t, func() bool { return strings.Contains(j.String(), "THE PIN IS REFUSED") }, 20*time.Second, time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	require.Equal(t, before+1, m.Calls("C_Login"))
	require.NoError(t, sign(t.Context()), "the other one is still logged in")
	require.NoError(t, syscall.Kill(b.Workers()[0], syscall.SIGKILL))
	require.Eventually(t, func() bool { return errors.Is(sign(t.Context()), hsm.ErrPIN) }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, before+1, m.Calls("C_Login"))
}

// The HSM is out: an honest error within the caller's time, and all is well when
// it is back.
func TestOutageAndReturn(t *testing.T) {
	t.Parallel()
	st, m := softhsmtest.Faulty(t)
	tok, _, _ := open(t, st)
	sign := signer(t, tok)
	f := m.Inject(faultmodule.Rule{On: "C_SignInit", Do: faultmodule.Return, Value: p11.CKR_DEVICE_ERROR})
	err := sign(t.Context())
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.ErrorIs(t, err, p11.Error(p11.CKR_DEVICE_ERROR), "the return value is there for the log")
	f.Stop()
	require.Eventually(t, func() bool { return sign(t.Context()) == nil }, 30*time.Second, 10*time.Millisecond)
}

// What a role may not do no message can.
func TestRoles(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	for _, c := range []struct {
		role   worker.Role
		signer bool
		root   bool
	}{{worker.RoleUse, false, false}, {worker.RoleManage, true, false}, {worker.RoleCeremony, true, true}} {
		tok, _, _ := open(t, st, func(b *broker.Config) { b.Role = c.role })
		for role, allowed := range map[hsm.Role]bool{hsm.RoleSigner: c.signer, hsm.RoleRoot: c.root} {
			ref := hsm.Ref{Tenant: string(c.role), Role: role, Name: "k"}
			_, err := tok.Generate(t.Context(), ref, hsm.P256, [16]byte{})
			if allowed {
				require.NoError(t, err, "%s %s", c.role, role)
				require.NoError(t, tok.Destroy(t.Context(), ref))
				continue
			}
			require.ErrorIs(t, err, hsm.ErrRefused, "%s %s", c.role, role)
			require.ErrorIs(t, tok.Destroy(t.Context(), ref), hsm.ErrRefused)
		}
	}
}

// A worker shows nothing and holds nothing that is not its own.
func TestWorkerIsPoor(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	tok, b, j := open(t, st)
	sign := signer(t, tok)
	require.NoError(t, sign(t.Context()))
	for _, pid := range b.Workers() {
		proc := fmt.Sprintf("/proc/%d/", pid)
		args, err := os.ReadFile(proc + "cmdline")
		require.NoError(t, err)
		require.Equal(t, "signet\x00hsm-worker\x00use\x00", string(args))
		env, err := os.ReadFile(proc + "environ")
		require.NoError(t, err)
		require.NotContains(t, string(env), "SOFTHSM2_CONF")
		status, err := os.ReadFile(proc + "status")
		require.NoError(t, err)
		for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"} {
			if strings.HasPrefix(line, "Cap") && os.Geteuid() != 0 {
				continue
			}
			require.Contains(t, string(status), line)
		}
		tasks, err := os.ReadDir(proc + "task")
		require.NoError(t, err)
		for _, task := range tasks { // every thread, also those that were there first
			if s, err := os.ReadFile(proc + "task/" + task.Name() + "/status"); err == nil {
				require.Contains(t, string(s), "Seccomp:\t2")
				require.Contains(t, string(s), "NoNewPrivs:\t1")
			}
		}
		limits, err := os.ReadFile(proc + "limits")
		require.NoError(t, err)
		require.Regexp(t, `Max core file size +0 +0`, string(limits))
		fds, err := os.ReadDir(proc + "fd")
		require.NoError(t, err)
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
			if err != nil {
				continue // it was closed meanwhile
			}
			own := strings.HasPrefix(target, st.Dir) || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/dev/") || strings.HasPrefix(target, "/sys/fs/cgroup/") || // the runtime reads its share of the processors

				strings.HasPrefix(target, "pipe:") || strings.HasPrefix(target, "socket:")
			require.True(t, own, "a worker holds %s", target)
		}
	}
	pin := string(st.PIN.Reveal())
	require.NotContains(t, j.String(), pin)
}

// Nothing of a worker outlives the one who made it.
func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	tok, b, _ := open(t, softhsmtest.Create(t))
	sign := signer(t, tok)
	pids := b.Workers()
	stop := load(4, sign)
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, tok.Close())
	_, errs := stop()
	require.NotEmpty(t, errs)
	for _, err := range errs {
		require.ErrorIs(t, err, hsm.ErrClosed)
	}
	for _, pid := range pids {
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
}

// Open fails with a reason, and leaves nothing behind.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	st := softhsmtest.Create(t)
	for name, change := range map[string]func(*broker.Config){
		"no such token":   func(c *broker.Config) { c.HSM.TokenLabel = "another" },
		"no such module":  func(c *broker.Config) { c.HSM.Module = "/no/such/module.so" },
		"not a worker":    func(c *broker.Config) { c.Command = []string{"/bin/true"} },
		"nothing like it": func(c *broker.Config) { c.Command = []string{"/no/such/program"} },
		"a talker":        func(c *broker.Config) { c.Command = []string{"/bin/echo", "hello"} },
		"a role":          func(c *broker.Config) { c.Role = "king" },
		"no PIN": func(c *broker.Config) {
			c.HSM.PIN = func(context.Context) (secret.Bytes, error) { return secret.Bytes{}, errors.New("no terminal") }
		},
	} {
		c := broker.Config{HSM: st.HSM(), Role: worker.RoleUse, Workers: 2}
		change(&c)
		_, err := broker.Open(t.Context(), c)
		require.Error(t, err, name)
		switch name {
		case "no such token":
			require.ErrorIs(t, err, hsm.ErrTokenNotFound)
			require.ErrorContains(t, err, "hsm.worker.network")
		case "no PIN":
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.ErrorContains(t, err, "no terminal")
			require.NotContains(t, err.Error(), "network", "it is not the worker's")
		case "no such module", "a role":
			require.ErrorIs(t, err, hsm.ErrConfig)
		default:
			require.ErrorIs(t, err, fault.ErrUnavailable)
		}
	}
}
