package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"coinop/protocol/seal"
)

// Keys are a cloud's keys by role, one file a role in one folder. Only the relay key is shared by
// all replicas of a cell.
type Keys struct {
	Authority *Authority      // certifies devices, and the broker they connect to
	Replicas  *Authority      // certifies the cloud's own connections to a broker outside it
	Relay     seal.PrivateKey // opens tickets
	Payment   seal.PrivateKey // opens cards
	Signing   seal.Signer     // signs checkpoints and policies
	Anchor    []byte          // authenticates anchors
}

// Files of a cloud's keys.
const (
	authorityKeyFile  = "authority.key"
	authorityCertFile = "authority.crt"
	replicasKeyFile   = "replicas.key"
	replicasCertFile  = "replicas.crt"
	relayFile         = "relay.key"
	paymentFile       = "payment.key"
	signingFile       = "signing.key"
	anchorFile        = "anchor.key"
)

// OpenKeys reads the keys in dir, and makes those that are missing: each file is written once and
// only its owner may read it. A root without its key, or the other way round, is an error.
func OpenKeys(dir string, now time.Time) (Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Keys{}, err
	}
	var k Keys
	var err error
	if k.Authority, err = openAuthority(dir, authorityKeyFile, authorityCertFile, "Coinop root", now); err != nil {
		return Keys{}, err
	}
	if k.Replicas, err = openAuthority(dir, replicasKeyFile, replicasCertFile, "Coinop replicas", now); err != nil {
		return Keys{}, err
	}
	if k.Relay, err = openSealKey(filepath.Join(dir, relayFile)); err != nil {
		return Keys{}, err
	}
	if k.Payment, err = openSealKey(filepath.Join(dir, paymentFile)); err != nil {
		return Keys{}, err
	}
	signing, err := openECDSA(filepath.Join(dir, signingFile))
	if err != nil {
		return Keys{}, err
	}
	k.Signing = seal.Signer{Key: signing, KeyID: "cloud"}
	k.Anchor, err = keep(filepath.Join(dir, anchorFile), "COINOP ANCHOR KEY", func() ([]byte, error) {
		b := make([]byte, 32)
		_, err := rand.Read(b)
		return b, err
	})
	return k, err
}

// Cloud is what a device must know of the keys.
func (k Keys) Cloud() (Cloud, error) {
	signing, err := x509.MarshalPKIXPublicKey(k.Signing.Key.Public())
	return Cloud{RelayKey: k.Relay.Public().Bytes(), PaymentKey: k.Payment.Public().Bytes(), SigningKey: signing}, err
}

func openAuthority(dir, keyFile, certFile, name string, now time.Time) (*Authority, error) {
	certFile = filepath.Join(dir, certFile)
	key, err := openECDSA(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	der, err := keep(certFile, "CERTIFICATE", func() ([]byte, error) {
		a, err := newAuthority(key, name, now)
		if err != nil {
			return nil, err
		}
		return a.Cert.Raw, nil
	})
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", certFile, err)
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return nil, fmt.Errorf("read %s: it is not the certificate of %s", certFile, keyFile)
	}
	return &Authority{Cert: cert, key: key}, nil
}

func openSealKey(path string) (seal.PrivateKey, error) {
	b, err := keep(path, "X25519 PRIVATE KEY", func() ([]byte, error) {
		k, err := seal.NewPrivateKey()
		if err != nil {
			return nil, err
		}
		return k.Bytes(), nil
	})
	if err != nil {
		return seal.PrivateKey{}, err
	}
	k, err := seal.ParsePrivateKey(b)
	if err != nil {
		return k, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

func openECDSA(path string) (*ecdsa.PrivateKey, error) {
	b, err := keep(path, "PRIVATE KEY", func() ([]byte, error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(k)
	})
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: want an ECDSA key", path)
	}
	return key, nil
}

// keep reads the PEM block of a file, or makes it. The whole file appears at once: two processes
// that make it together end with one key.
func keep(path, kind string, fresh func() ([]byte, error)) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err := fresh()
		if err != nil {
			return nil, err
		}
		if err := create(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})); err != nil {
			return nil, err
		}
		text, err = os.ReadFile(path)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(rest) > 0 {
		return nil, fmt.Errorf("read %s: want one PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

// create writes a file that was not there; one that came up meanwhile stays.
func create(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
