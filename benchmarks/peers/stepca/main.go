package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/ca"
	"github.com/smallstep/certificates/db"
	"go.step.sm/crypto/jose"
	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
)

// provisionerName is what tokens carry as their issuer.
const provisionerName = "bench"

const keyURI = "pkcs11:id=7374657063610000;object=stepca"

func main() {
	dir := flag.String("dir", "", "folder for certificates, keys and the database")
	listen := flag.String("listen", "", "host:port")
	module := flag.String("module", "", "PKCS#11 library")
	token := flag.String("token", "", "label of the token")
	pin := flag.String("pin-file", "", "file with the PIN")
	flag.Parse()
	if err := run(*dir, *listen, *module, *token, *pin); err != nil {
		fmt.Fprintln(os.Stderr, "stepca:", err)
		os.Exit(1)
	}
}

func run(dir, listen, module, token, pinFile string) error {
	pin, err := os.ReadFile(pinFile)
	if err != nil {
		return err
	}
	opts := apiv1.Options{Type: apiv1.PKCS11, URI: fmt.Sprintf("pkcs11:module-path=%s;token=%s?pin-value=%s", module, token, strings.TrimSpace(string(pin)))}
	if _, err := os.Stat(filepath.Join(dir, "root.pem")); err != nil {
		if err := tower(dir, opts); err != nil {
			return fmt.Errorf("make the CA: %w", err)
		}
	}
	jwk, err := newProvisioner(filepath.Join(dir, "provisioner.json"))
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	cfg := &config.Config{
		Root: []string{filepath.Join(dir, "root.pem")}, IntermediateCert: filepath.Join(dir, "intermediate.pem"), IntermediateKey: keyURI,
		Address: listen, DNSNames: []string{host, "localhost"}, KMS: &opts, TLS: &config.DefaultTLSOptions,
		DB:              &db.Config{Type: "badgerv2", DataSource: filepath.Join(dir, "db")},
		AuthorityConfig: &config.AuthConfig{Provisioners: provisioner.List{&provisioner.JWK{Type: "JWK", Name: provisionerName, Key: jwk}}},
		Logger:          json.RawMessage(`{"format": "common", "output": "/dev/null"}`),
	}
	server, err := ca.New(cfg, ca.WithQuiet(true))
	if err != nil {
		return err
	}
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt)
		<-stop
		_ = server.Stop()
		os.Exit(0)
	}()
	go func() {
		for {
			c, err := tls.Dial("tcp", listen, &tls.Config{InsecureSkipVerify: true}) // only whether it answers
			if err == nil {
				_ = c.Close()
				fmt.Println("ready", listen)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return server.Run()
}

// tower makes a root in software, which is not kept, and an intermediate in the HSM.
func tower(dir string, opts apiv1.Options) error {
	kms, err := pkcs11.New(nil, opts) //nolint:staticcheck // it takes no part of the context
	if err != nil {
		return err
	}
	defer kms.Close()
	made, err := kms.CreateKey(&apiv1.CreateKeyRequest{Name: keyURI, SignatureAlgorithm: apiv1.ECDSAWithSHA256})
	if err != nil {
		return err
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	root, err := certify(dir, "root", 1, nil, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	_, err = certify(dir, "intermediate", 0, root, made.PublicKey, rootKey)
	return err
}

func certify(dir, name string, path int, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "bench " + name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: path, MaxPathLenZero: path == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name+".pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newProvisioner writes the private key for the client and gives the public one.
func newProvisioner(file string) (*jose.JSONWebKey, error) {
	key, err := jose.GenerateJWK("EC", "P-256", "ES256", "sig", "", 0)
	if err != nil {
		return nil, err
	}
	raw, err := key.MarshalJSON()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	public := key.Public()
	return &public, nil
}
