package broker

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

// Defaults of Config, and limits.
const (
	DefaultHang        = 5 * time.Second
	DefaultMemoryLimit = 512 << 20
	MaxWorkers         = 64
)

// Config says what to open and how to keep it.
type Config struct {
	// HSM names the token, as for an engine in this process. Lanes is the sum over
	// the workers, each of which has at least two; Instances is of each. Hang is how
	// long one call in the module may take before its worker is killed (making a key
	// and enumerating may take twelve times as long); 0 = DefaultHang. The PIN source
	// is asked here; it is never called twice at once.
	HSM hsm.Config
	// Role is the most that this process may do: worker.RoleUse makes no keys.
	Role worker.Role
	// Workers that use keys; 0 = GOMAXPROCS. More than one also passes locks that a
	// module holds for a whole process.
	Workers int
	// MemoryLimit is the resident size in bytes above which a worker is replaced;
	// 0 = DefaultMemoryLimit.
	MemoryLimit int64
	// User whom workers run as; only root can choose one. Empty = our own, then as
	// root without any capability.
	User string
	// Network lets workers open sockets, which the module of an HSM on the network
	// needs.
	Network bool
	// Command starts a worker, to which its role is appended; nil = this program
	// with the verb hsm-worker.
	Command []string
}

// Verb is the command of this program that is a worker.
const Verb = "hsm-worker"

// Validate returns hsm.ErrConfig with the first thing that can not work.
func (c *Config) Validate() error {
	if err := c.HSM.Validate(); err != nil {
		return err
	}
	bad := func(what string) error { return fmt.Errorf("hsm: %w: %s", hsm.ErrConfig, what) }
	if _, err := worker.ParseRole(string(c.Role)); err != nil {
		return bad(err.Error())
	}
	switch {
	case c.Workers < 0 || c.Workers > MaxWorkers:
		return bad(fmt.Sprintf("workers must be 0..%d", MaxWorkers))
	case c.MemoryLimit < 0:
		return bad("the memory limit must not be negative")
	case c.User != "" && os.Geteuid() != 0:
		return bad("only root can run workers as another user")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.HSM.Hang == 0 {
		c.HSM.Hang = DefaultHang
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = DefaultMemoryLimit
	}
	if c.HSM.Lanes == 0 {
		c.HSM.Lanes = 2 * runtime.GOMAXPROCS(0)
	}
	if c.HSM.Logger == nil {
		c.HSM.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Command == nil {
		// The program's file may have been replaced; this is what we run.
		c.Command = []string{"/proc/self/exe", Verb}
		if runtime.GOOS != "linux" {
			c.Command[0], _ = os.Executable()
		}
	}
	return c
}

// lanes of one worker.
func (c *Config) lanes() int {
	return max(2, c.HSM.Instances, (c.HSM.Lanes+c.Workers-1)/c.Workers)
}

// limit is how long one operation may be under way.
func (c *Config) limit(op hsm.Op) time.Duration {
	switch op {
	case hsm.OpGenerate, hsm.OpDestroy, hsm.OpKeys:
		return 12 * c.HSM.Hang
	}
	return c.HSM.Hang
}
