package faultmodule_test

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

// The test binary is also the worker of the modes with processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == broker.Verb {
		os.Exit(worker.Main(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// A mode is a way to have the module: in this process or in others.
type mode struct {
	name    string
	workers int // 0 = in this process
}

var (
	none    = mode{"none", 0}
	single  = mode{"one_worker", 1}
	process = mode{"process", 2}

	modes    = []mode{none, process}
	isolated = []mode{process}
)

func (m mode) engine(ctx context.Context, c broker.Config) (hsm.Engine, error) {
	if m.workers == 0 {
		return hsm.OpenEngine(ctx, c.HSM)
	}
	c.Role, c.Workers = worker.RoleCeremony, m.workers
	return broker.Open(ctx, c)
}

func (m mode) open(ctx context.Context, c broker.Config) (*hsm.Token, error) {
	e, err := m.engine(ctx, c)
	if err != nil {
		return nil, err
	}
	return hsm.New(ctx, e, hsm.Options{Metrics: c.HSM.Metrics})
}

// engines is how many engines serve, each with its own sessions and login.
func (m mode) engines() int { return max(m.workers, 1) }
