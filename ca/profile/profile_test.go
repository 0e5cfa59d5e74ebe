package profile_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/profile"
)

const example = "../../docs/profiles.example.yaml"

// The example says of itself that it holds the built-in profiles word for word.
func TestTheExampleLoads(t *testing.T) {
	t.Parallel()
	set, err := profile.Load(example)
	require.NoError(t, err)
	require.Len(t, set, 7)
	for name, p := range profile.BuiltIn() {
		got := set[name]
		require.Equal(t, p.Hash(), got.Hash(), name)
		require.Equal(t, p, got, name)
	}
	own := set["BRANCH_GATEWAY"]
	require.Equal(t, []string{"10.20.0.0/16"}, own.AltNames.IP)
	require.True(t, own.IgnoreAsks)
	// Word for word: the file alone says it, not the defaults behind it.
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	for name := range profile.BuiltIn() {
		require.Contains(t, string(text), "name: "+name+" ")
	}
}

// Every field of a profile can be written, so that none keeps a silent zero.
func TestEveryFieldHasAPlaceInTheFile(t *testing.T) {
	t.Parallel()
	names := map[string]bool{"SelfSigned": true} // roots come from ceremonies
	for _, n := range profile.Fields() {
		names[n] = true
	}
	for f := range reflect.TypeFor[issuance.Profile]().Fields() {
		require.True(t, names[f.Name], f.Name)
	}
}

const device = `profiles:
  - name: AST_DEVICE
    key_usages: [digitalSignature]
    ext_key_usages: [clientAuth]
    validity: 24h
    subject: {required: [commonName]}
    keys: [P-256]
`

func TestAFileReplacesABuiltInProfile(t *testing.T) {
	t.Parallel()
	set, err := profile.Parse("p.yaml", []byte(device))
	require.NoError(t, err)
	require.Len(t, set, 6)
	require.Equal(t, "24h0m0s", set[profile.ASTDevice].Validity.String())
	require.Equal(t, issuance.Signer(), set[profile.Signer])
}

const signer = `profiles:
  - name: SIGNER
    ca: true
    key_usages: [digitalSignature, keyCertSign, cRLSign]
    validity: 8760h
    subject: {required: [commonName]}
    keys: [P-256, RSA]
    min_rsa_bits: 3072
`

// Devices trust a signer for years.
func TestASignerKeepsItsStrength(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		signer: true,
		strings.Replace(signer, "3072", "4096", 1):                                       true,
		strings.Replace(signer, "3072", "3071", 1):                                       false,
		strings.Replace(signer, "3072", "2048", 1):                                       false,
		strings.Replace(signer, "    min_rsa_bits: 3072\n", "", 1):                       false,
		strings.NewReplacer(", RSA", "", "    min_rsa_bits: 3072\n", "").Replace(signer): true,
	} {
		_, err := profile.Parse("p.yaml", []byte(text))
		if ok {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorIs(t, err, profile.ErrFile, text)
		require.ErrorContains(t, err, "min_rsa_bits", text)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old, new string
		want     string
	}{
		"an unknown field":        {"validity:", "vality:", `unknown field "vality"`},
		"a duration without unit": {"24h", "24", "duration"},
		"an unknown usage":        {"[digitalSignature]", "[signing]", "keyUsages"},
		"an unknown key":          {"[P-256]", "[P-521]", "keys"},
		"what lint refuses":       {"[digitalSignature]", "[keyEncipherment]", "e_ecdsa_allowed_ku"},
		"a CA":                    {"    validity", "    ca: true\n    validity", "must not be a CA"},
		"a device for servers":    {"clientAuth", "serverAuth", "clientAuth"},
		"a root":                  {"AST_DEVICE", "ROOT", "ceremony"},
		"an issuer":               {"AST_DEVICE", "ISSUER", "ceremony"},
		"a signer that is none":   {"AST_DEVICE", "SIGNER", "must be a CA"},
		"OCSP that is none":       {"AST_DEVICE", "OCSP_SIGNING", "OCSPSigning"},
		"OCSP without nocheck":    {"AST_DEVICE\n    key_usages: [digitalSignature]\n    ext_key_usages: [clientAuth]", "OWN\n    key_usages: [digitalSignature]\n    ext_key_usages: [OCSPSigning]", "OWN must not be for OCSPSigning"},
		"CRLs by another profile": {"AST_DEVICE", "CRL_SIGNING", "can not be replaced"},
		"CRLs by another name": {
			"AST_DEVICE\n    key_usages: [digitalSignature]\n    ext_key_usages: [clientAuth]\n    validity: 24h\n    subject: {required: [commonName]}",
			"OWN\n    key_usages: [cRLSign]\n    self_issued: true\n    validity: 24h", "OWN must not be self_issued",
		},
		"OCSP by another name": {
			"AST_DEVICE\n    key_usages: [digitalSignature]\n    ext_key_usages: [clientAuth]",
			"OWN\n    key_usages: [digitalSignature]\n    ext_key_usages: [OCSPSigning]\n    ocsp_nocheck: true", "OWN must not be for OCSPSigning",
		},
		"twice":       {device, device + strings.TrimPrefix(device, "profiles:\n"), "twice"},
		"self-signed": {"    validity", "    self_signed: true\n    validity", "unknown field"},
		"a wildcard in the middle": {
			"    keys", "    alt_names: {dns: [\"a.*.example\"]}\n    keys", "alt_names",
		},
		"an address that is no prefix": {
			"    keys", "    alt_names: {ip: [10.0.0.1/8]}\n    keys", "alt_names",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(device, c.old, c.new, 1)
			require.NotEqual(t, device, text)
			_, err := profile.Parse("p.yaml", []byte(text))
			require.ErrorIs(t, err, profile.ErrFile)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "p.yaml")
		})
	}
	_, err := profile.Load(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, profile.ErrFile)
}

func TestLoadBlockList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	sum := sha256.Sum256([]byte("a key"))
	keys := write("keys", "# published by mistake\n\n"+hex.EncodeToString(sum[:])+"\n")
	debian := write("blacklist.RSA-2048", "# Debian\n00a1b2c3d4e5f6a7b8c9\n10a1b2c3d4e5f6a7b8c9\n")
	list, err := profile.LoadBlockList(keys, debian)
	require.NoError(t, err)
	require.Equal(t, 3, list.Len())
	_, err = profile.LoadBlockList(keys, write("bad", "\nxyz\n"))
	require.ErrorIs(t, err, profile.ErrFile)
	require.ErrorContains(t, err, "line 2")
	require.ErrorContains(t, err, filepath.Join(dir, "bad"))
	_, err = profile.LoadBlockList(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, profile.ErrFile)
}
