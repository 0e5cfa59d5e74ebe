package faultmodule_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

const (
	killDir    = "SIGNET_FAULT_DIR"
	killModule = "SIGNET_FAULT_LIBRARY"
)

// 31: SIGKILL at a random PKCS#11 call of key generation, 200 times in the long
// form. Each key has its intent written before; afterwards every key that was
// acknowledged is there, and once the intents are settled no object is on the
// token that they do not know.
func TestFault31_KilledInGeneration(t *testing.T) {
	t.Parallel()
	kills := 8
	if os.Getenv("SIGNET_LONG") != "" {
		kills = 200
	}
	st, m := softhsmtest.Faulty(t)
	random := rand.New(rand.NewPCG(31, 31))
	for killed := 0; killed < kills; {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFault31Child$")
		cmd.Env = append(os.Environ(), killDir+"="+st.Dir, killModule+"="+m.Path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		said := bufio.NewScanner(out)
		require.True(t, said.Scan())
		require.Equal(t, "ready", said.Text())
		f := m.Inject(faultmodule.Rule{After: random.IntN(80), Times: 1, Do: faultmodule.Kill, Late: random.IntN(2) == 0}) // a key makes some 40 calls
		for said.Scan() {
			t.Log(said.Text())
		}
		require.ErrorContains(t, cmd.Wait(), "killed")
		require.Equal(t, 1, f.Hits())
		f.Stop()
		killed++
	}

	tok := softhsmtest.Open(t, st.HSM())
	acked := map[string]bool{}
	for _, label := range lines(t, filepath.Join(st.Dir, "acked")) {
		acked[label] = true
	}
	adopted, swept := 0, 0
	for i, line := range lines(t, filepath.Join(st.Dir, "intents")) {
		label, id, _ := strings.Cut(line, " ")
		r, err := hsm.ParseRef(label)
		require.NoError(t, err, "line %d", i)
		info, err := tok.Lookup(t.Context(), r)
		switch {
		case err == nil && hex.EncodeToString(info.ID[:]) == id && i%2 == 0:
			adopted++
			delete(acked, label)
			continue
		case err == nil:
			delete(acked, label)
		case !errors.Is(err, hsm.ErrKeyNotFound):
			require.NoError(t, err)
		}
		// The intent is given up: what there is of it goes.
		if err := tok.Destroy(t.Context(), r); !errors.Is(err, hsm.ErrKeyNotFound) {
			require.NoError(t, err)
			swept++
		}
	}
	require.Empty(t, acked, "acknowledged and gone")
	require.Positive(t, adopted)
	require.NoError(t, tok.SelfTest(t.Context()))
	known, unknown, stubs := objectsOf(t, st)
	require.Equal(t, 2*adopted, known, "both halves of each key")
	require.Zero(t, unknown)
	t.Logf("%d kills: %d keys adopted, %d given up and swept, %d files that SoftHSM left without a class", kills, adopted, swept, stubs)
}

// lines reads the whole lines of a file.
func lines(t *testing.T, path string) (list []string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		list = append(list, in.Text())
	}
	return list
}

// objectsOf counts what is on the token: objects with a label of the test, with
// another, and without a class.
func objectsOf(t *testing.T, st *softhsm.Token) (known, unknown, stubs int) {
	t.Helper()
	list, stubs := softhsmtest.Objects(t, st)
	for _, o := range list {
		if strings.HasPrefix(o.Label, "signet/1/alpha/signer/k") {
			known++
		} else {
			unknown++
		}
	}
	return known, unknown, stubs
}

// TestFault31Child makes keys until it is killed.
func TestFault31Child(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("the child of TestFault31")
	}
	st, err := softhsm.Load(dir)
	require.NoError(t, err)
	c := st.HSM()
	c.Module = os.Getenv(killModule)
	tok, err := hsm.Open(context.Background(), c)
	require.NoError(t, err)
	add := func(name, line string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(line + "\n")
		require.NoError(t, errors.Join(err, f.Close()))
	}
	fmt.Println("ready")
	for {
		var id [16]byte
		require.NoError(t, tok.Random(context.Background(), id[:]))
		r := hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: fmt.Sprintf("k%x", id[:6])}
		add("intents", r.String()+" "+hex.EncodeToString(id[:]))
		_, err := tok.Generate(context.Background(), r, hsm.P256, id)
		require.NoError(t, err)
		add("acked", r.String())
	}
}
