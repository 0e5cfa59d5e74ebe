package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// source is a program whose output holds benchmark lines.
type source struct {
	name    string
	test    string // a package whose test binary is run, in its folder; or
	program string // a main package; or
	c       string // a C program of one file
	module  string // folder of the program's own go.mod; empty: the product's
	args    func(env) []string
	env     func(env) []string // more of the environment; nil = none
	needs   []string           // sources that are built before and not run
	starts  func(env) int
	as      string // before the names of its benchmarks, when another has the same
}

// env is one run of the runner.
type env struct {
	root   string // of the repository
	bin    string // scratch folder with what was built
	quick  bool
	rounds int
}

// slice is how long one side of a pair runs in one round.
func (e env) slice(full, quick time.Duration) string {
	if e.quick {
		return quick.String()
	}
	return full.String()
}

// own are the flags of the programs below benchmarks/.
func (e env) own(slice string) []string {
	args := []string{"-slice", slice, "-rounds", strconv.Itoa(e.rounds)}
	if e.quick {
		args = append(args, "-quick")
	}
	return args
}

func once(env) int        { return 1 }
func eachRound(e env) int { return e.rounds }

// build compiles the source into e.bin.
func (s *source) build(ctx context.Context, e env) error {
	tool, dir := "go", e.root
	var args []string
	switch {
	case s.test != "":
		args = []string{"test", "-c", "-o", e.path(s.name), "./" + s.test}
	case s.program != "":
		args = []string{"build", "-o", e.path(s.name), "./" + s.program}
		if s.module != "" {
			dir = filepath.Join(e.root, s.module)
			args = []string{"build", "-tags=noyubikey", "-o", e.path(s.name), "./" + s.program}
		}
	case s.c != "":
		tool, args = "cc", []string{"-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", e.path(s.name), s.c, "-ldl"}
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", s.name, err, tail(out))
	}
	return nil
}

func (e env) path(name string) string { return filepath.Join(e.bin, name) }

// run starts the source as often as it wants and reads what it prints.
func (s *source) run(ctx context.Context, e env, into samples, log io.Writer) error {
	for range s.starts(e) {
		var out, stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, e.path(s.name), s.args(e)...)
		cmd.Dir = filepath.Join(e.root, s.test)
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, log), io.MultiWriter(&stderr, log)
		cmd.Env = append(os.Environ(), "SIGNET_BENCH_BIN="+e.bin)
		if s.env != nil {
			cmd.Env = append(cmd.Env, s.env(e)...)
		}
		// A program has a database or a server to stop.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
		cmd.WaitDelay = 30 * time.Second
		err := cmd.Run()
		if readErr := into.read(&out, s.as); readErr != nil {
			return fmt.Errorf("%s: %w", s.name, readErr)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %s", s.name, err, tail(stderr.Bytes()))
		}
	}
	return nil
}

// tail is the end of an output, for an error.
func tail(out []byte) string {
	const most = 2000
	out = bytes.TrimSpace(out)
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return string(out)
}
