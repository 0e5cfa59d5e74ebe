package signature

import (
	"crypto/ecdh"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/testvec"
)

// Which vector file is checked by which test. Every test counts its rows, so a
// loop over nothing fails, and flips something in each row, so a comparison of
// nothing fails.
//
//	v3/signatures-v31.json                  TestVectorSignatures
//	v3/signatures-v3.json                   TestVectorSignatures
//	v3/signatures-v2.json                   TestVectorSignatures (numeric counter as 16 bytes)
//	v3/signatures-offline.json              TestVectorSignatures
//	v3/compute-derived-keys.json            TestVectorDerivedKeys
//	v3/compute-master-secret-key.json       TestVectorMasterSecret
//	v3/public-key-fingerprint-v3.json       TestVectorFingerprint
//	v3/public-key-fingerprint-v2.json       TestVectorFingerprintV2
//	v3/public-key-fingerprint.json          TestVectorFingerprintV2 (but row 36: its X is left-aligned by mistake)
//	v3/activation-status-blob-data.json     TestVectorStatusBlob
//	v3/activation-status-blob-iv.json       TestVectorStatusIV
//	v3/verify-activation-data-signature-v3  TestVectorActivationQR
//	ecies/*.json (8 files)                  TestVectorEnvelope
//	generated/http-signatures.json          TestVectorHTTPSignatures
//	generated/get-canonicalization.json     TestVectorGET
//	generated/signature-header.json         TestVectorSignatureHeader
//	generated/token-header.json             TestVectorTokenHeader
//	generated/token-digest-v3.json          TestVectorTokenDigest
//	generated/activation-code.json          TestVectorActivationCode
//	generated/activation-keys.json          TestVectorActivationKeys
//	generated/ecies-with-private-key.json   TestVectorEnvelopeWithPrivateKey
//	generated/status-blob.json              TestVectorStatusBlobOfServer
//	js/*.json (4 files)                     TestVectorPrimitives
//
// Not checked, because nothing of protocol 2 is offered beyond verifying:
//
//	v3/encrypt-device-public-key-v2, v3/decrypt-server-public-key-v2,
//	v3/verify-encrypted-server-public-key-signature-v2,
//	v3/verify-activation-data-signature-v2: the key exchange of protocol 2
//	v4/*: protocol 4.0
//
// Checked elsewhere: generated/proximity-totp.json and misc/totp.csv in otp;
// generated/argon2-mcf.json where the server keeps activation OTPs.

// vectors is the common shape of the files.
type vectors[In, Out any] struct {
	Data []struct {
		Input  In  `json:"input"`
		Output Out `json:"output"`
	} `json:"data"`
}

func load[In, Out any](t *testing.T, name string, rows int) vectors[In, Out] {
	t.Helper()
	v := testvec.JSON[vectors[In, Out]](t, "powerauth/"+name)
	require.Len(t, v.Data, rows)
	return v
}

// testKeys joins factor keys without a master secret.
func testKeys(possession, knowledge, biometry []byte) *Keys {
	k := &Keys{}
	for i, key := range [][]byte{possession, knowledge, biometry} {
		k.factor[i] = newFactorKey((*[16]byte)(key))
	}
	return k
}

// signRaw signs data as it is, without making a base string.
func (k *Keys) signRaw(form Signature, f Factor, data []byte, c Counter) Signature {
	w := getWork()
	defer w.put()
	w.data = append(w.data[:blockSize], data...)
	return k.signData(w, form, f, c)
}

func TestVectorSignatures(t *testing.T) {
	t.Parallel()
	type in struct {
		Possession  []byte `json:"signaturePossessionKey"`
		Knowledge   []byte `json:"signatureKnowledgeKey"`
		Biometry    []byte `json:"signatureBiometryKey"`
		Type        string `json:"signatureType"`
		Digits      string `json:"signatureComponentLength"`
		CounterData []byte `json:"counterData"`
		Counter     string `json:"counter"`
		Data        []byte `json:"data"`
	}
	type out struct {
		Signature string `json:"signature"`
	}
	for _, file := range []struct {
		name string
		rows int
		form Signature
	}{
		{"v3/signatures-v31.json", 300, Signature{format: Base64}},
		{"v3/signatures-v3.json", 300, Signature{format: Decimal, digits: OnlineDigits}},
		{"v3/signatures-v2.json", 300, Signature{format: Decimal, digits: OnlineDigits}},
		{"v3/signatures-offline.json", 200, Signature{format: Decimal}},
	} {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			perType := map[Factor]int{}
			for _, row := range load[in, out](t, file.name, file.rows).Data {
				k := testKeys(row.Input.Possession, row.Input.Knowledge, row.Input.Biometry)
				f, ok := ParseFactors(row.Input.Type)
				require.True(t, ok)
				var c Counter
				if row.Input.Counter != "" {
					n, err := strconv.ParseUint(row.Input.Counter, 10, 64)
					require.NoError(t, err)
					binary.BigEndian.PutUint64(c[8:], n)
				} else {
					require.Len(t, row.Input.CounterData, 16)
					c = Counter(row.Input.CounterData)
				}
				form := file.form
				if row.Input.Digits != "" {
					n, err := strconv.Atoi(row.Input.Digits)
					require.NoError(t, err)
					form.digits = uint8(n)
				}
				perType[f]++

				got := k.signRaw(form, f, row.Input.Data, c)
				require.Equal(t, row.Output.Signature, got.String())

				var want Signature
				var err error
				if row.Input.Digits != "" {
					want, err = ParseOfflineSignature(row.Output.Signature, int(form.digits))
				} else {
					want, err = ParseSignature(row.Output.Signature)
				}
				require.NoError(t, err)
				require.Equal(t, want, got)

				changed := append([]byte(nil), row.Input.Data...)
				changed = append(changed, 0)
				require.NotEqual(t, got, k.signRaw(form, f, changed, c))
				other := c
				other[15] ^= 1
				require.NotEqual(t, got, k.signRaw(form, f, row.Input.Data, other))
			}
			require.GreaterOrEqual(t, len(perType), 2)
			for f, n := range perType {
				require.Equal(t, 100, n, f.String())
			}
		})
	}
}

func TestVectorDerivedKeys(t *testing.T) {
	t.Parallel()
	type in struct {
		Master []byte `json:"masterSecretKey"`
	}
	type out struct {
		Possession []byte `json:"signaturePossessionKey"`
		Knowledge  []byte `json:"signatureKnowledgeKey"`
		Biometry   []byte `json:"signatureBiometryKey"`
		Transport  []byte `json:"transportKey"`
		Vault      []byte `json:"vaultEncryptionKey"`
	}
	check := func(master []byte, want out) {
		k := DeriveKeys([16]byte(master))
		transport, vault := k.TransportKey(), k.VaultKey()
		var factors [3][16]byte
		for i, index := range []uint64{indexPossession, indexKnowledge, indexBiometry} {
			m := [16]byte(master)
			factors[i] = kdf(&m, index)
		}
		require.Equal(t, want, out{factors[0][:], factors[1][:], factors[2][:], transport[:], vault[:]})
		// What is kept of the factor keys is made of the same ones.
		require.Equal(t, testKeys(want.Possession, want.Knowledge, want.Biometry).factor, k.factor)
		other := [16]byte(master)
		other[0] ^= 1
		require.NotEqual(t, k.factor, DeriveKeys(other).factor)
	}
	for _, row := range load[in, out](t, "v3/compute-derived-keys.json", 20).Data {
		check(row.Input.Master, row.Output)
	}
	js := testvec.JSON[struct {
		Vectors []struct {
			in
			out
		} `json:"testVectors"`
	}](t, "powerauth/js/aes-kdf.json").Vectors
	require.Len(t, js, 6)
	for _, row := range js {
		check(row.Master, row.out)
	}
}

func TestVectorMasterSecret(t *testing.T) {
	t.Parallel()
	type in struct {
		DevicePrivate []byte `json:"devicePrivateKey"`
		DevicePublic  []byte `json:"devicePublicKey"`
		ServerPrivate []byte `json:"serverPrivateKey"`
		ServerPublic  []byte `json:"serverPublicKey"`
	}
	type out struct {
		Master []byte `json:"masterSecretKey"`
	}
	for _, row := range load[in, out](t, "v3/compute-master-secret-key.json", 20).Data {
		require.Equal(t, row.Output.Master, agree(t, row.Input.DevicePrivate, row.Input.ServerPublic))
		require.Equal(t, row.Output.Master, agree(t, row.Input.ServerPrivate, row.Input.DevicePublic))
		wrong := append([]byte(nil), row.Input.ServerPrivate...)
		wrong[len(wrong)-1] ^= 1
		require.NotEqual(t, row.Output.Master, agree(t, wrong, row.Input.DevicePublic))
		require.Equal(t, row.Input.ServerPrivate, MarshalPrivateKey(privateKey(t, row.Input.ServerPrivate)))
	}
}

func privateKey(t *testing.T, b []byte) *ecdh.PrivateKey {
	t.Helper()
	key, err := ParsePrivateKey(b)
	require.NoError(t, err)
	return key
}

func publicKey(t *testing.T, b []byte) *ecdh.PublicKey {
	t.Helper()
	key, err := ParsePublicKey(b)
	require.NoError(t, err)
	require.Equal(t, b, key.Bytes())
	return key
}

func sharedX(t *testing.T, private, public []byte) []byte {
	t.Helper()
	z, err := privateKey(t, private).ECDH(publicKey(t, public))
	require.NoError(t, err)
	return z
}

func agree(t *testing.T, private, public []byte) []byte {
	t.Helper()
	m := MasterSecret(sharedX(t, private, public))
	return m[:]
}

func TestVectorFingerprint(t *testing.T) {
	t.Parallel()
	type in struct {
		Device []byte `json:"devicePublicKey"`
		Server []byte `json:"serverPublicKey"`
	}
	type out struct {
		DeviceX     []byte `json:"devicePublicKeyCoordX"`
		ServerX     []byte `json:"serverPublicKeyCoordX"`
		Activation  string `json:"activationId"`
		Fingerprint string `json:"fingerprint"`
	}
	stripped := 0
	for _, row := range load[in, out](t, "v3/public-key-fingerprint-v3.json", 100).Data {
		device, server := publicKey(t, row.Input.Device), publicKey(t, row.Input.Server)
		require.Equal(t, row.Output.DeviceX, coordinateX(device))
		require.Equal(t, row.Output.ServerX, coordinateX(server))
		require.Equal(t, row.Output.Fingerprint, Fingerprint(device, row.Output.Activation, server))
		require.NotEqual(t, row.Output.Fingerprint, Fingerprint(server, row.Output.Activation, device))
		require.NotEqual(t, row.Output.Fingerprint, Fingerprint(device, row.Output.Activation+"0", server))
		if len(row.Output.DeviceX) < 32 || len(row.Output.ServerX) < 32 {
			stripped++
		}
	}
	require.Positive(t, stripped, "the rule about leading zeros was not exercised")
}

func TestVectorFingerprintV2(t *testing.T) {
	t.Parallel()
	type in struct {
		Public []byte `json:"publicKey"`
	}
	type out struct {
		X           []byte `json:"publicKeyCoordX"`
		Fingerprint string `json:"fingerprint"`
	}
	for name, faulty := range map[string]int{"v3/public-key-fingerprint-v2.json": -1, "v3/public-key-fingerprint.json": 36} {
		checked := 0
		for i, row := range load[in, out](t, name, 100).Data {
			got := fingerprint(coordinateX(publicKey(t, row.Input.Public)))
			if i == faulty {
				require.NotEqual(t, row.Output.Fingerprint, got)
				continue
			}
			require.Equal(t, row.Output.Fingerprint, got, "row %d", i)
			checked++
		}
		require.GreaterOrEqual(t, checked, 99)
	}
}

func TestVectorActivationKeys(t *testing.T) {
	t.Parallel()
	type in struct {
		ServerPrivate []byte `json:"serverPrivateKey"`
		ServerPublic  []byte `json:"serverPublicKey"`
		DevicePrivate []byte `json:"devicePrivateKey"`
		DevicePublic  []byte `json:"devicePublicKey"`
		Activation    string `json:"activationId"`
	}
	type out struct {
		Master         []byte `json:"masterSecretKey"`
		Possession     []byte `json:"possession"`
		Knowledge      []byte `json:"knowledge"`
		Biometry       []byte `json:"biometry"`
		Transport      []byte `json:"transport"`
		Vault          []byte `json:"vault"`
		EncryptedVault []byte `json:"encryptedVaultKey"`
		Fingerprint    string `json:"fingerprint"`
	}
	for _, row := range load[in, out](t, "generated/activation-keys.json", 25).Data {
		master := agree(t, row.Input.ServerPrivate, row.Input.DevicePublic)
		require.Equal(t, master, agree(t, row.Input.DevicePrivate, row.Input.ServerPublic))
		k := DeriveKeys([16]byte(master))
		transport, vault := k.TransportKey(), k.VaultKey()
		require.Equal(t, row.Output, out{
			master, row.Output.Possession, row.Output.Knowledge, row.Output.Biometry,
			transport[:], vault[:], k.EncryptedVaultKey(),
			Fingerprint(publicKey(t, row.Input.DevicePublic), row.Input.Activation, publicKey(t, row.Input.ServerPublic)),
		})
		require.Equal(t, testKeys(row.Output.Possession, row.Output.Knowledge, row.Output.Biometry).factor, k.factor)
		opened, err := k.DecryptVaultKey(row.Output.EncryptedVault)
		require.NoError(t, err)
		require.Equal(t, vault, opened)
	}
}

func TestVectorPrimitives(t *testing.T) {
	t.Parallel()
	type row struct {
		Plain, Key, IV, Enc     string
		Data, HMAC              string
		Secret, SInfo, Expected string
	}
	type file struct {
		Vectors []row `json:"testVectors"`
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	cbc := testvec.JSON[file](t, "powerauth/js/aes-cbc-pkcs7.json").Vectors
	require.Len(t, cbc, 14)
	for _, v := range cbc {
		key, iv := [16]byte(unhex(v.Key)), [16]byte(unhex(v.IV))
		require.Equal(t, v.Enc, hex.EncodeToString(encryptCBC(&key, &iv, unhex(v.Plain))))
		plain, ok := decryptCBC(&key, &iv, unhex(v.Enc))
		require.True(t, ok)
		require.Equal(t, v.Plain, hex.EncodeToString(plain))
	}
	macs := testvec.JSON[file](t, "powerauth/js/hmac.json").Vectors
	require.Len(t, macs, 7)
	for _, v := range macs {
		got := hmacShort(unhex(v.Key), unhex(v.Data))
		require.Equal(t, v.HMAC, hex.EncodeToString(got[:len(v.HMAC)/2]))
		if key := unhex(v.Key); len(key) <= blockSize {
			got = hmacHeadroom(key, append(make([]byte, blockSize), unhex(v.Data)...))
			require.Equal(t, v.HMAC, hex.EncodeToString(got[:len(v.HMAC)/2]))
		}
	}
	kdfs := testvec.JSON[file](t, "powerauth/js/kdf-x963.json").Vectors
	require.Len(t, kdfs, 20)
	for _, v := range kdfs {
		got := make([]byte, len(v.Expected)/2)
		x963(got, unhex(v.Secret), unhex(v.SInfo))
		require.Equal(t, v.Expected, hex.EncodeToString(got))
	}
}
