package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/hsm"
)

// maxTokenInstances is hsm's bound, told early.
const maxTokenInstances = 8

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
	if c.Hang < 0 {
		bad("hsm.hang: must not be negative")
	}
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

// openHSM opens the token, or the group of it and those that stand by.
func openHSM(ctx context.Context, c *HSMConfig, log *slog.Logger, metrics prometheus.Registerer) (*hsm.Token, error) {
	if len(c.Failover) == 0 {
		return hsm.Open(ctx, c.config(log, metrics))
	}
	member := func(name string, hc hsm.Config) hsm.Member {
		hc.Logger = log.With("member", name)
		hc.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"member": name}, metrics)
		return hsm.Member{Name: name, Open: func(ctx context.Context) (hsm.Engine, error) { return hsm.OpenEngine(ctx, hc) }}
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
