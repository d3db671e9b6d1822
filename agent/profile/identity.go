package profile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"coinop/protocol/seal"
)

// identityFor is how long an identity of our making is valid.
const identityFor = 365 * 24 * time.Hour

// identity makes the identity of a device that no cloud knows: the agent starts with it, and no cloud lets it in.
// A folder that is there already is left as it is: it may be a real one.
func identity(dir, device string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	own, err := seal.NewPrivateKey()
	if err != nil {
		return err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: device}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(identityFor),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err1 := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	public, err3 := x509.MarshalPKIXPublicKey(key.Public())
	cloud, err4 := json.Marshal(map[string][]byte{"relay_key": own.Public().Bytes(), "payment_key": own.Public().Bytes(), "signing_key": public})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, text := range map[string][]byte{
		"device.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "device.crt": crt, "root.crt": crt, "cloud.json": cloud,
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return err
}
