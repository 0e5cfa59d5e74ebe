package ceremony_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

const stepsText = `
name: steps
people:
$PEOPLE
steps:
  - token_init:
      label: fresh
      pin: {threshold: 2, of: [Ada, Bob, Cyd]}
      so_pin: {threshold: 2, of: [Ada, Bob]}
  - root: {as: root, key: root, algorithm: P-256, subject: {common_name: Root}, validity: 96h}
  - intermediate: {as: issuer, by: root, key: issuer, algorithm: P-256, subject: {common_name: Issuer}, validity: 48h, backup: {threshold: 2, of: [Ada, Bob, Cyd]}}
  - key: {role: kek, key: main, algorithm: AES-256, backup: {threshold: 1, of: [Cyd]}}
  - csr: {as: other, key: other, algorithm: P-256, subject: {common_name: Other}}
  - crl: {by: root, number: 1, validity: 48h}
  - backup_verify: {role: issuer, key: issuer}
  - inventory: {}
`

// stage is a module with an empty token, a second token, and people.
type stage struct {
	soft   *softhsm.Token
	second *softhsm.Token
	people []*custody.Key
	text   string
	dir    string
}

func newStage(t *testing.T, text string) *stage {
	t.Helper()
	s := &stage{soft: softhsmtest.Create(t), second: softhsmtest.Create(t), dir: t.TempDir()}
	var lines strings.Builder
	for _, name := range []string{"Ada", "Bob", "Cyd"} {
		k, err := custody.NewKey(name)
		require.NoError(t, err)
		s.people = append(s.people, k)
		line, err := json.Marshal(k.Person("officer"))
		require.NoError(t, err)
		fmt.Fprintf(&lines, "  - %s\n", line)
	}
	s.text = strings.Replace(text, "$PEOPLE\n", lines.String(), 1)
	return s
}

func (s *stage) options(t *testing.T, out string) ceremony.Options {
	t.Helper()
	return ceremony.Options{
		HSM: ceremony.HSM{Module: s.soft.Module, Env: s.soft.HSM().Env}, Second: softhsmtest.Open(t, s.second.HSM()),
		People: s.people, Out: filepath.Join(s.dir, out),
	}
}

// open logs in with the PIN that custodians open.
func (s *stage) open(t *testing.T, out string) *hsm.Token {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, out, ceremony.UserPINFile))
	require.NoError(t, err)
	sealed, err := custody.Parse(content)
	require.NoError(t, err)
	c := s.soft.HSM()
	c.TokenLabel = "fresh"
	c.PIN = func(context.Context) (secret.Bytes, error) { return sealed.Open(s.people[1:]) }
	return softhsmtest.Open(t, c)
}

func TestACeremonyOfSteps(t *testing.T) {
	t.Parallel()
	s := newStage(t, stepsText)
	plan := parse(t, s.text)
	findings, err := ceremony.Preflight(t.Context(), plan, s.options(t, "out"))
	require.NoError(t, err)
	require.NotEmpty(t, findings)
	made, err := ceremony.Execute(t.Context(), plan, s.options(t, "out"))
	require.NoError(t, err)
	out := filepath.Join(s.dir, "out")
	last, err := ceremony.VerifyFolder(out)
	require.NoError(t, err)
	require.Equal(t, made.Transcript, last)

	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	var calls, signers []string
	signoffs := map[string]int{}
	for _, e := range entries(t, text) {
		switch e.Event {
		case "pkcs11":
			calls = append(calls, e.Detail["call"].(string))
			require.Equal(t, "CKR_OK", e.Detail["result"])
		case "signature":
			signers = append(signers, e.Detail["by"].(string))
		case "signoff":
			signoffs[e.Detail["custodian"].(string)]++
		case "key":
			require.NotEmpty(t, e.Detail["attributes"])
			if e.Detail["spki"] != nil {
				require.Len(t, strings.Fields(e.Detail["spkiWords"].(string)), 24)
			}
		}
	}
	require.Equal(t, []string{"C_InitToken", "C_Login(SO)", "C_InitPIN", "C_Login(USER)", "C_GenerateKeyPair"}, calls[:5])
	require.Contains(t, calls, "C_WrapKey")
	require.Contains(t, calls, "C_UnwrapKey")
	require.Equal(t, []string{
		"key signet/1/_system/root/root/0", "key signet/1/_system/issuer/issuer/0", "key signet/1/_system/issuer/other/0",
		"person Ada", "person Bob", "person Cyd",
	}, signers)
	require.Equal(t, map[string]int{"Ada": 3, "Bob": 3, "Cyd": 3}, signoffs)
	page, err := os.ReadFile(filepath.Join(out, ceremony.PrintFile))
	require.NoError(t, err)
	hash, err := hex.DecodeString(last)
	require.NoError(t, err)
	words, err := ceremony.Words([32]byte(hash))
	require.NoError(t, err)
	require.Equal(t, len(calls), strings.Count(string(page), "<td>CKR_OK</td>"), "each call is a row")
	for _, want := range []string{"C_UnwrapKey", "BEGIN CERTIFICATE", "<th>Attribute</th><th>private</th><th>public</th>", "<td>CKA_EXTRACTABLE</td><td>false</td>", last, words, "person Ada"} {
		require.Contains(t, string(page), want)
	}
	require.NotContains(t, string(page), "http", "the page needs nothing else")

	// No secret is in any output: neither PIN, nor the keys that wrap.
	token := s.open(t, "out")
	require.Len(t, labels(t, token), 4)
	for _, name := range []string{ceremony.UserPINFile, ceremony.SOPINFile, "backup-_system-issuer-issuer-0.json"} {
		content, err := os.ReadFile(filepath.Join(out, name))
		require.NoError(t, err)
		if b, err := ceremony.ParseBackup(content); err == nil {
			var flat, indented bytes.Buffer
			require.NoError(t, json.Compact(&flat, b.WrapKey))
			require.NoError(t, json.Indent(&indented, flat.Bytes(), "", " "))
			content = append(indented.Bytes(), '\n')
		}
		sealed, err := custody.Parse(content)
		require.NoError(t, err)
		plain, err := sealed.Open(s.people)
		require.NoError(t, err)
		for path, in := range snapshot(t, out) {
			require.NotContains(t, in, string(plain.Reveal()), "%s in %s", name, path)
			require.NotContains(t, in, base64.StdEncoding.EncodeToString(plain.Reveal()), "%s in %s", name, path)
		}
	}

	// What is changed afterwards is found, also what no line's hash covers.
	lines := strings.SplitAfter(string(text), "\n")
	for name, bad := range map[string]string{
		"a signature taken away": strings.Join(lines[:len(lines)-2], ""),
		"all taken away":         strings.Join(lines[:len(lines)-1-len(signers)], ""),
	} {
		_, err := ceremony.VerifyTranscript(strings.NewReader(bad))
		require.ErrorIs(t, err, ceremony.ErrTranscript, name)
	}
	for _, name := range []string{"root.pem", ceremony.PrintFile, ceremony.UserPINFile} {
		path := filepath.Join(out, name)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(content, ' '), 0o600))
		_, err = ceremony.VerifyFolder(out)
		require.ErrorIs(t, err, ceremony.ErrTranscript, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}

	// The backup restores elsewhere, with enough of its custodians only.
	content, err := os.ReadFile(filepath.Join(out, "backup-_system-issuer-issuer-0.json"))
	require.NoError(t, err)
	b, err := ceremony.ParseBackup(content)
	require.NoError(t, err)
	second := softhsmtest.Open(t, s.second.HSM())
	_, err = ceremony.VerifyBackup(t.Context(), second, b, s.people[:1])
	require.ErrorIs(t, err, custody.ErrShares)
	require.ErrorContains(t, err, "ask 1 more of: Bob, Cyd")
	k, err := ceremony.VerifyBackup(t.Context(), second, b, s.people[1:])
	require.NoError(t, err)
	original, err := token.Lookup(t.Context(), k.Ref)
	require.NoError(t, err)
	require.Equal(t, original, k)
	require.Empty(t, labels(t, second))
}

// Who can write the file can make the chain of hashes anew, but not the signatures.
func TestForgedTranscript(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	s := newStage(t, "name: forge\npeople:\n$PEOPLE\nsteps:\n  - root: {as: root, key: root, algorithm: P-256, subject: {common_name: R}, validity: 96h}\n")
	_, err := ceremony.Execute(t.Context(), parse(t, s.text), ceremony.Options{Token: softhsmtest.New(t), People: s.people, Out: out})
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(out, ceremony.TranscriptFile))
	require.NoError(t, err)
	_, err = ceremony.VerifyTranscript(strings.NewReader(rechained(t, text, "", "")))
	require.NoError(t, err, "unchanged, it is the same")
	mallory, err := custody.NewKey("Ada")
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"a certificate's serial":   {`"serial":"`, `"serial":"0`},
		"an attribute":             {`"CKA_EXTRACTABLE":"false"`, `"CKA_EXTRACTABLE":"true"`},
		"fewer signers":            {`"signers":[`, `"sinners":[`},
		"a person's key":           {s.people[0].Person("").Sign, mallory.Person("").Sign},
		"the plan, not its text":   {`"name":"forge"`, `"name":"forged"`},
		"a signature of the token": {`"signature":"M`, `"signature":"N`},
	} {
		forged := rechained(t, text, change[0], change[1])
		require.NotEqual(t, string(text), forged, name)
		_, err = ceremony.VerifyTranscript(strings.NewReader(forged))
		require.ErrorIs(t, err, ceremony.ErrTranscript, name)
	}
}

// rechained replaces a text and makes every hash anew.
func rechained(t *testing.T, text []byte, old, fresh string) string {
	t.Helper()
	var out strings.Builder
	from, to := "", "" // the hash of the line before, as it was and as it is
	for l := range strings.Lines(string(text)) {
		var line struct {
			Entry json.RawMessage `json:"entry"`
			Hash  string          `json:"hash"`
		}
		require.NoError(t, json.Unmarshal([]byte(l), &line))
		raw := string(line.Entry)
		if from != "" {
			raw = strings.Replace(raw, from, to, 1)
		}
		if old != "" {
			raw = strings.ReplaceAll(raw, old, fresh)
		}
		sum := sha256.Sum256([]byte(raw))
		from, to = line.Hash, hex.EncodeToString(sum[:])
		fmt.Fprintf(&out, `{"entry":%s,"hash":"%s"}`+"\n", raw, to)
	}
	return out.String()
}

func FuzzParseBackup(f *testing.F) {
	f.Add([]byte(`{"version":1,"label":"signet/1/_system/kek/main/0","id":"000102030405060708090a0b0c0d0e0f","algorithm":"AES-256","wrapped":"AA==","wrapKey":{}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, err := ceremony.ParseBackup(content); err != nil {
			require.ErrorIs(t, err, ceremony.ErrBackup)
		}
	})
}

// A ceremony that is cut off anywhere is taken up again, and ends as if nothing had
// been: no key twice, no file half made.
func TestResume(t *testing.T) {
	t.Parallel()
	last := 72 // there are about 70 lines
	step := 12
	if os.Getenv("SIGNET_LONG") != "" {
		step = 1
	}
	for at := 3; at < last; at += step {
		t.Run(fmt.Sprint("line ", at), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, stepsText)
			plan := parse(t, s.text)
			ctx, cancel := context.WithCancel(t.Context())
			o, lines := s.options(t, "out"), 0
			ceremony.WithClock(&o, func() time.Time {
				if lines++; lines == at {
					cancel()
				}
				return time.Now()
			})
			_, err := ceremony.Execute(ctx, plan, o)
			if err == nil {
				require.Greater(t, at, 66, "it was done before")
				return
			}
			require.ErrorIs(t, err, ceremony.ErrStep)
			// As a crash leaves it: no line that says failed, and half a line.
			path := filepath.Join(o.Out, ceremony.TranscriptFile)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			all := strings.SplitAfter(string(content), "\n")
			if strings.Contains(all[len(all)-2], `"event":"failed"`) {
				all = all[:len(all)-1]
			}
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(all[:len(all)-1], "")+`{"entry":{"se`), 0o600))

			o = s.options(t, "out")
			o.Resume = true
			other := parse(t, s.text+"# changed\n")
			_, err = ceremony.Execute(t.Context(), other, o)
			require.ErrorIs(t, err, ceremony.ErrPlan, "only the plan that was begun")
			made, err := ceremony.Execute(t.Context(), plan, o)
			require.NoError(t, err)
			got, err := ceremony.VerifyFolder(o.Out)
			require.NoError(t, err)
			require.Equal(t, made.Transcript, got)
			_, err = ceremony.Execute(t.Context(), plan, o)
			require.ErrorIs(t, err, ceremony.ErrOutput, "it has ended")
			require.Len(t, labels(t, s.open(t, "out")), 4)
			files, err := filepath.Glob(filepath.Join(o.Out, "*"))
			require.NoError(t, err)
			require.Len(t, files, 11)
		})
	}
}

func TestPINsAndDestruction(t *testing.T) {
	t.Parallel()
	s := newStage(t, "name: pins\npeople:\n$PEOPLE\nsteps:\n  - pin_change: {of: user, pin: {threshold: 2, of: [Ada, Bob]}}\n  - pin_change: {of: so}\n  - root: {as: r, key: r, algorithm: P-256, subject: {common_name: R}, validity: 48h}\n")
	o := s.options(t, "out")
	lend := func(p secret.Bytes) func(context.Context) (secret.Bytes, error) {
		return func(context.Context) (secret.Bytes, error) { return secret.New(bytes.Clone(p.Reveal())), nil }
	}
	o.HSM.TokenLabel, o.HSM.PIN, o.HSM.SOPIN = s.soft.Label, lend(s.soft.PIN), lend(s.soft.SOPIN)
	o.HSM.NewPIN = lend(secret.New([]byte("new-so-pin")))
	wrong := o
	wrong.HSM.PIN = lend(secret.New([]byte("not-the-pin")))
	_, err := ceremony.Execute(t.Context(), parse(t, s.text), wrong)
	require.ErrorIs(t, err, hsm.ErrPIN)
	require.NoDirExists(t, o.Out)
	_, err = ceremony.Execute(t.Context(), parse(t, s.text), o)
	require.NoError(t, err)

	content, err := os.ReadFile(filepath.Join(o.Out, ceremony.UserPINFile))
	require.NoError(t, err)
	sealed, err := custody.Parse(content)
	require.NoError(t, err)
	o.HSM.PIN = func(context.Context) (secret.Bytes, error) { return sealed.Open(s.people) }
	text, err := os.ReadFile(filepath.Join(o.Out, ceremony.TranscriptFile))
	require.NoError(t, err)
	require.NotContains(t, string(text), "new-so-pin")
	spki := ""
	for _, e := range entries(t, text) {
		if e.Event == "key" {
			spki = e.Detail["spkiSha256"].(string)
		}
	}
	head := s.text[:strings.Index(s.text, "steps:")]
	for out, c := range map[string]struct {
		steps string
		want  error
	}{
		"another": {"  - key_destroy: {role: root, key: r, spki_sha256: " + strings.Repeat("ab", 32) + ", reason: x, dependants: [none]}\n", ceremony.ErrKey},
		"absent":  {"  - key_verify: {role: root, key: nobody, spki_sha256: \"" + spki + "\"}\n", ceremony.ErrKey},
		"label":   {"  - root: {as: r, key: r, algorithm: P-256, subject: {common_name: R2}, validity: 48h}\n", ceremony.ErrLabel},
		"token":   {"  - inventory: {}\ntoken: {label: elsewhere}\n", ceremony.ErrToken},
	} {
		o.Out = filepath.Join(s.dir, out)
		_, err := ceremony.Execute(t.Context(), parse(t, head+"steps:\n"+c.steps), o)
		require.ErrorIs(t, err, c.want, out)
		require.NoDirExists(t, o.Out)
	}
	missing := o
	missing.People = s.people[:2]
	_, err = ceremony.Execute(t.Context(), parse(t, head+"steps:\n  - inventory: {}\n"), missing)
	require.ErrorIs(t, err, ceremony.ErrPeople)
	require.ErrorContains(t, err, "Cyd")

	o.Out = filepath.Join(s.dir, "end")
	_, err = ceremony.Execute(t.Context(), parse(t, head+"steps:\n  - key_verify: {role: root, key: r, spki_sha256: "+spki+
		"}\n  - key_destroy: {role: root, key: r, spki_sha256: "+spki+", reason: test, dependants: [none]}\n  - inventory: {}\n"), o)
	require.NoError(t, err)
	list, err := os.ReadFile(filepath.Join(o.Out, "inventory.json"))
	require.NoError(t, err)
	require.Equal(t, "[]\n", string(list))
	// The security officer, with the new PIN, sets the user's.
	o.Out, o.HSM.SOPIN, o.HSM.PIN = filepath.Join(s.dir, "reset"), lend(secret.New([]byte("new-so-pin"))), nil
	o.HSM.NewPIN = lend(secret.New([]byte("87654321")))
	_, err = ceremony.Execute(t.Context(), parse(t, head+"steps:\n  - pin_init: {}\n  - inventory: {}\n"), o)
	require.NoError(t, err)
}

// What is wrong with steps is found in the plan alone.
func TestStepsRefuse(t *testing.T) {
	t.Parallel()
	s := newStage(t, stepsText)
	for name, c := range map[string][2]string{
		"unknown field":          {"by: root, number: 1", "by: root, nmuber: 1"},
		"unknown field inline":   {"key: root, algorithm", "key: root, colour: red, algorithm"},
		"two things in one step": {"  - inventory: {}", "  - inventory: {}\n    csr: {}"},
		"nothing in a step":      {"  - inventory: {}", "  - {}"},
		"unknown kind":           {"  - inventory: {}", "  - inventroy: {}"},
		"late token_init":        {"  - inventory: {}", "  - token_init: {label: x}"},
		"late pin_change":        {"  - inventory: {}", "  - pin_change: {of: user}"},
		"stranger as custodian":  {"threshold: 1, of: [Cyd]", "threshold: 1, of: [Eve]"},
		"custodian twice":        {"threshold: 1, of: [Cyd]", "threshold: 1, of: [Cyd, Cyd]"},
		"threshold too high":     {"threshold: 1, of: [Cyd]", "threshold: 2, of: [Cyd]"},
		"by nobody":              {"as: issuer, by: root", "as: issuer, by: rood"},
		"label twice":            {"csr: {as: other, key: other", "csr: {as: other, key: issuer"},
		"name twice":             {"csr: {as: other", "csr: {as: issuer"},
		"a path as name":         {"csr: {as: other", "csr: {as: ../x"},
		"too long a validity":    {"validity: 48h, backup", "validity: 97h, backup"},
		"no such algorithm":      {"algorithm: AES-256", "algorithm: P-256"},
		"backup of no backup":    {"backup_verify: {role: issuer, key: issuer}", "backup_verify: {role: root, key: root}"},
		"existing on a new one":  {"  - inventory: {}", "  - key_verify: {role: root, key: x, id: " + strings.Repeat("ab", 16) + "}"},
		"second CRL":             {"  - inventory: {}", "  - crl: {by: root, number: 2, validity: 48h}"},
		"both forms":             {"steps:", "crl: [{by: root, number: 1, validity: 48h}]\nsteps:"},
		"no steps":               {s.text[strings.Index(s.text, "steps:"):], "steps: []\n"},
		"bad person":             {"age1", "age2"},
	} {
		require.Contains(t, s.text, c[0], name)
		_, err := ceremony.Parse("plan.yaml", []byte(strings.Replace(s.text, c[0], c[1], 1)))
		require.ErrorIs(t, err, ceremony.ErrPlan, name)
	}
}

// An issuer on another token: its request goes into the plan of the root's.
func TestRequestFromAnotherToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := ceremony.Run(t.Context(), softhsmtest.New(t), parse(t, "name: a\nsteps:\n  - csr: {as: issuer, key: issuer, algorithm: P-256, subject: {common_name: I}}\n"), filepath.Join(dir, "a"))
	require.NoError(t, err)
	request, err := os.ReadFile(filepath.Join(dir, "a", "issuer.csr"))
	require.NoError(t, err)
	text := "name: b\nsteps:\n  - root: {as: root, key: root, algorithm: P-256, subject: {common_name: R}, validity: 96h}\n" +
		"  - intermediate:\n      as: issuer\n      by: root\n      subject: {common_name: I}\n      validity: 48h\n      request: |\n        " +
		strings.ReplaceAll(strings.TrimSpace(string(request)), "\n", "\n        ") + "\n"
	made, err := ceremony.Run(t.Context(), softhsmtest.New(t), parse(t, text), filepath.Join(dir, "b"))
	require.NoError(t, err)
	require.Equal(t, "CN=I", certificate(t, made.Issuer).Subject.String())
	_, err = ceremony.Parse("plan.yaml", []byte(strings.Replace(text, "      request:", "      key: x\n      request:", 1)))
	require.ErrorIs(t, err, ceremony.ErrPlan)
}

// The plans that stand ready are rehearsed as they are.
func TestReadyPlans(t *testing.T) {
	t.Parallel()
	plans, err := filepath.Glob("../softhsm/plans/*.yaml")
	require.NoError(t, err)
	require.Len(t, plans, 4)
	for _, path := range plans {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			plan, err := ceremony.Load(path)
			require.NoError(t, err)
			out := filepath.Join(t.TempDir(), "out")
			_, err = ceremony.Rehearse(t.Context(), plan, out)
			require.NoError(t, err)
			_, err = ceremony.VerifyFolder(out)
			require.NoError(t, err)
			page, err := os.ReadFile(filepath.Join(out, ceremony.PrintFile))
			require.NoError(t, err)
			require.Contains(t, string(page), "Rehearsal on a throw-away token")
			other := strings.Replace(string(page), "form 2", "form 1", 1)
			require.NotEqual(t, string(page), other)
			require.NoError(t, os.WriteFile(filepath.Join(out, ceremony.PrintFile), []byte(other), 0o600))
			_, err = ceremony.VerifyFolder(out)
			require.ErrorContains(t, err, "another version")
		})
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	words, err := ceremony.Words([32]byte{})
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("abandon ", 23)+"art", words) // the vector of BIP-39
}
