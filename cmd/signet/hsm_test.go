package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// TestHSMScripts gives the real program HSMs that are not as they should be. Each
// script has a token of its own behind the fault module, in $WORK's environment:
//
//	fault FUNCTION VALUE [half]   the next calls answer so
//	plant LABEL                   a key with DECRYPT beside SIGN
//	calls FUNCTION N              the module was called so often since the last time
//	keys N                        the token holds so many keys
//	make LABEL ALGORITHM          a key as it should be
//	exit CODE ARGUMENT...         signet ends with this code
//	envsubst FILE                 put the values of $NAME in
func TestHSMScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/hsm",
		Setup: func(e *testscript.Env) error {
			st, m := softhsmtest.Faulty(e.T().(testing.TB))
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("MODULE", st.Module)
			e.Setenv("SOFTHSM", st.Conf)
			e.Setenv("LABEL", st.Label)
			e.Values["fault"], e.Values["config"], e.Values["calls"] = m, st.HSM(), map[string]int{}
			return os.WriteFile(e.WorkDir+"/pin", st.PIN.Reveal(), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fault": func(ts *testscript.TestScript, _ bool, args []string) {
				m := ts.Value("fault").(*faultmodule.Module)
				m.Clear()
				if len(args) == 0 {
					return
				}
				rv, err := strconv.ParseUint(args[1], 0, 32)
				ts.Check(err)
				rule := faultmodule.Rule{On: args[0], Do: faultmodule.Return, Value: uint(rv)}
				if len(args) == 3 {
					rule.Do = faultmodule.Half
				}
				m.Inject(rule)
			},
			"calls": func(ts *testscript.TestScript, _ bool, args []string) {
				m, seen := ts.Value("fault").(*faultmodule.Module), ts.Value("calls").(map[string]int)
				n := m.Calls(args[0]) - seen[args[0]]
				seen[args[0]] += n
				if args[1] != "-" && strconv.Itoa(n) != args[1] {
					ts.Fatalf("%s was called %d times", args[0], n)
				}
			},
			"exit": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("signet", args[1:]...)
				if got := fmt.Sprint(err); got != "exit status "+args[0] {
					ts.Fatalf("signet %v: %s, want exit status %s\n%s", args[1:], got, args[0], ts.ReadFile("stderr"))
				}
			},
			"envsubst": func(ts *testscript.TestScript, _ bool, args []string) {
				path := ts.MkAbs(args[0])
				ts.Check(os.WriteFile(path, []byte(os.Expand(ts.ReadFile(path), ts.Getenv)), 0o600))
			},
			"keys": func(ts *testscript.TestScript, _ bool, args []string) {
				onToken(ts, func(tok *hsm.Token) {
					keys, err := tok.Keys(context.Background(), nil)
					ts.Check(err)
					if strconv.Itoa(len(keys)) != args[0] {
						ts.Fatalf("%d keys: %v", len(keys), keys)
					}
				})
			},
			"make": func(ts *testscript.TestScript, _ bool, args []string) {
				ref, err := hsm.ParseRef(args[0])
				ts.Check(err)
				onToken(ts, func(tok *hsm.Token) {
					_, err := tok.Generate(context.Background(), ref, hsm.Algorithm(args[1]), [16]byte{})
					ts.Check(err)
				})
			},
			"plant": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(plant(ts.Value("config").(hsm.Config), args[0]))
			},
		},
	})
}

func onToken(ts *testscript.TestScript, do func(*hsm.Token)) {
	tok, err := hsm.Open(context.Background(), ts.Value("config").(hsm.Config))
	ts.Check(err)
	defer func() { ts.Check(tok.Close()) }()
	do(tok)
}

// plant makes a P-256 pair as a careless tool does, which may decrypt as well.
func plant(c hsm.Config, label string) error {
	tok, err := hsm.Open(context.Background(), c) // initialises, and logs in
	if err != nil {
		return err
	}
	defer tok.Close()
	m := p11.New(c.Module)
	slots, err := m.GetSlotList(true)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if info, err := m.GetTokenInfo(slot); err != nil || info.Label != c.TokenLabel {
			continue
		}
		s, err := m.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err != nil {
			return err
		}
		common := []*p11.Attribute{
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, make([]byte, 16)),
		}
		_, _, err = m.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)},
			append(common, p11.NewAttribute(p11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})),
			append(common[:3:3], p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_PRIVATE, true)))
		_ = m.CloseSession(s)
		return err
	}
	return hsm.ErrTokenNotFound
}

// Each failure that an operator must mend has its exit code and says what to do.
func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, err := range operatorMustAct {
		require.Equal(t, 3, exitCode(fmt.Errorf("x: %w", err)))
		require.NotEmpty(t, advice(fmt.Errorf("x: %w", err)), err)
	}
	require.Equal(t, 1, exitCode(hsm.ErrTokenNotFound), "it may come back")
	require.NotEmpty(t, advice(hsm.ErrTokenNotFound))
	require.Equal(t, 2, exitCode(usageError{hsm.ErrPIN}))
	require.Empty(t, advice(context.Canceled))
}
