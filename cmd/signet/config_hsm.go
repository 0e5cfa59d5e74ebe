package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

const (
	// maxTokenInstances is hsm's bound, told early.
	maxTokenInstances = 8
	// minHang: what is shorter takes a busy module for one that hangs.
	minHang = 100 * time.Millisecond
	// minWorkerMemory in MiB: a worker is that large before it has done anything.
	minWorkerMemory = 64

	isolationProcess = "process"
	isolationNone    = "none"
)

// validate judges what is optional of the HSM.
func (c *HSMConfig) validate(bad func(string, ...any)) {
	if c.Instances < 0 || c.Instances > maxTokenInstances {
		bad("hsm.instances: must be 0 to %d", maxTokenInstances)
	}
	switch c.SessionCopies {
	case "", "off", "auto":
	default:
		bad(`hsm.session_copies: must be "off" or "auto"`)
	}
	if h := c.Hang.Std(); h != 0 && h < minHang {
		bad("hsm.hang: must be 0 or at least %s", minHang)
	}
	c.validateIsolation(bad)
	names := map[string]bool{firstMember: true}
	for i, t := range c.Failover {
		if t.Name == "" || names[t.Name] {
			bad("hsm.failover[%d].name: must be given, be another than %q, and stand once", i, firstMember)
		}
		names[t.Name] = true
		if t.Module == "" {
			bad("hsm.failover[%d].module: the path of the PKCS#11 library is needed", i)
		}
		if t.TokenLabel == "" && t.TokenSerial == "" {
			bad("hsm.failover[%d].token_label: a label or a serial is needed", i)
		}
		if err := t.PIN.Validate(); err != nil {
			bad("hsm.failover[%d].pin: %w", i, err)
		}
	}
}

// validateIsolation judges where the module is to run.
func (c *HSMConfig) validateIsolation(bad func(string, ...any)) {
	switch c.Isolation {
	case "", isolationProcess:
	case isolationNone:
		if c.Workers != 0 || c.Worker != (HSMWorkerConfig{}) {
			bad("hsm.isolation: with none there are no workers: leave hsm.workers and hsm.worker out")
		}
	default:
		bad("hsm.isolation: %q is neither process nor none", c.Isolation)
	}
	if c.Workers < 0 || c.Workers > broker.MaxWorkers {
		bad("hsm.workers: must be 0..%d", broker.MaxWorkers)
	}
	if m := c.Worker.MemoryLimit; m != 0 && m < minWorkerMemory {
		bad("hsm.worker.memory_limit: must be 0 or at least %d (MiB)", minWorkerMemory)
	}
}

// firstMember is what the token of hsm itself is called in its failover group.
const firstMember = "primary"

// config is what package hsm is told of the token.
func (c *HSMConfig) config(log *slog.Logger, metrics prometheus.Registerer) hsm.Config {
	return hsm.Config{
		Module: c.Module, Env: c.Env, InitArgs: c.InitArgs, Accept: c.Accept, TokenLabel: c.TokenLabel, TokenSerial: c.TokenSerial, PIN: c.PIN.Read,
		Lanes: c.Lanes, Instances: c.Instances, SessionCopies: c.SessionCopies == "auto",
		Hang: c.Hang.Std(), KeepAlive: c.KeepAlive.Std(), Logger: log, Metrics: metrics,
	}
}

// purpose is what a verb does with the keys: its role is the most that its workers
// may, which a module in this process can not be held to.
type purpose struct {
	role worker.Role
	once bool // a few calls, for which one worker is enough
}

// The purposes of the verbs.
var (
	toServe   = purpose{role: worker.RoleManage}
	toDevelop = purpose{role: worker.RoleCeremony}
	toRead    = purpose{worker.RoleUse, true}
	toManage  = purpose{worker.RoleManage, true}
	toMake    = purpose{worker.RoleCeremony, true}
)

// openHSM opens the token, or the group of it and those that stand by.
func openHSM(ctx context.Context, c *HSMConfig, why purpose, log *slog.Logger, metrics prometheus.Registerer) (*hsm.Token, error) {
	if len(c.Failover) == 0 {
		engine, err := c.engine(ctx, why, c.config(log, metrics))
		if err != nil {
			return nil, err
		}
		return hsm.New(ctx, engine, hsm.Options{Logger: log, Metrics: metrics})
	}
	member := func(name string, hc hsm.Config) hsm.Member {
		hc.Logger = log.With("member", name)
		hc.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, metrics)
		return hsm.Member{Name: name, Open: func(ctx context.Context) (hsm.Engine, error) { return c.engine(ctx, why, hc) }}
	}
	members := []hsm.Member{member(firstMember, c.config(log, nil))}
	for _, t := range c.Failover {
		hc := c.config(log, nil)
		hc.Module, hc.Env, hc.TokenLabel, hc.TokenSerial, hc.PIN = t.Module, t.Env, t.TokenLabel, t.TokenSerial, t.PIN.Read
		members = append(members, member(t.Name, hc))
	}
	group, err := hsm.NewGroup(ctx, members, hsm.GroupOptions{Logger: log, Metrics: metrics})
	if err != nil {
		return nil, err
	}
	return hsm.New(ctx, group, hsm.Options{Logger: log, Metrics: metrics})
}

// engine opens one token where the module is to run.
func (c *HSMConfig) engine(ctx context.Context, why purpose, hc hsm.Config) (hsm.Engine, error) {
	if c.Isolation == isolationNone {
		return hsm.OpenEngine(ctx, hc)
	}
	workers := c.Workers
	if why.once {
		workers = 1
	}
	return broker.Open(ctx, broker.Config{
		HSM: hc, Role: why.role, Workers: workers, MemoryLimit: int64(c.Worker.MemoryLimit) << 20,
		User: c.Worker.User, Network: c.Worker.Network,
	})
}
