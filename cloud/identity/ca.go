// Package identity says who a device is: the authority that signs certificates, and what one knows
// about a device's certificate.
//
//	ca, err := identity.NewAuthority(now)          // once an installation
//	bundle, err := ca.Device("snack-1", cloud)     // key, certificate, trust roots
//	err = bundle.Write(dir)
//
// Keys are ECDSA P-256. A device's certificate has its id as common name and nothing else: the
// broker, the relay and the registry all read it there.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"coinop/protocol"
	"coinop/protocol/seal"
)

// Lives of certificates. Renewal is a later matter; until then a device is added anew.
const (
	caLife     = 20 * 365 * 24 * time.Hour
	deviceLife = 365 * 24 * time.Hour
	serverLife = 365 * 24 * time.Hour
)

// ErrName is returned for a device id that cannot be one. It wraps protocol.ErrDeviceID.
var ErrName = errors.New("device name")

// Authority signs certificates of devices and servers.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Bundle is what a party needs to prove who it is and whom it may trust.
type Bundle struct {
	Key    *ecdsa.PrivateKey
	Cert   []byte // DER
	Serial string // of Cert, hex
	Root   []byte // DER of the authority
	Cloud  Cloud
}

// Cloud is what a device must know of the cloud beside its authority.
type Cloud struct {
	RelayKey   []byte `json:"relay_key"`   // X25519, opens tickets
	PaymentKey []byte `json:"payment_key"` // X25519, opens cards
	SigningKey []byte `json:"signing_key"` // PKIX P-256, signs checkpoints and policies
}

// NewAuthority makes a root.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return newAuthority(key, "Coinop root", now)
}

func newAuthority(key *ecdsa.PrivateKey, name string, now time.Time) (*Authority, error) {
	tmpl, err := template(name, now, caLife)
	if err != nil {
		return nil, err
	}
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.MaxPathLenZero = true, true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{Cert: cert, key: key}, err
}

// Device makes a key and a client certificate for a device.
func (a *Authority) Device(id protocol.DeviceID, now time.Time, cloud Cloud) (Bundle, error) {
	if err := id.Check(); err != nil {
		return Bundle{}, fmt.Errorf("%w %q: %w", ErrName, id, err)
	}
	return a.issue(string(id), now, deviceLife, x509.ExtKeyUsageClientAuth, nil, cloud)
}

// Server makes a key and a server certificate for the broker at hosts (names or addresses).
func (a *Authority) Server(hosts []string, now time.Time) (Bundle, error) {
	return a.issue("coinop-cloud", now, serverLife, x509.ExtKeyUsageServerAuth, hosts, Cloud{})
}

// Revoked is the list of certificates nobody is to take any more, by serial, in DER: for a broker
// that asks no registry. It holds as long as the authority does; a newer one goes before it.
func (a *Authority) Revoked(serials []string, now time.Time) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(now.UnixMilli()), ThisUpdate: now.Add(-24 * time.Hour), NextUpdate: a.Cert.NotAfter}
	for _, s := range serials {
		n, ok := new(big.Int).SetString(s, 16)
		if !ok {
			return nil, fmt.Errorf("serial %q: not hex", s)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("make revocation list: %w", err)
	}
	return der, nil
}

// ReplicaName is who the cloud is at a broker outside it. No device can have it: an id holds no dot.
const ReplicaName = "coinop.cloud"

// Replica makes a key and a client certificate for the cloud's own connections to a broker outside it.
func (a *Authority) Replica(now time.Time) (Bundle, error) {
	return a.issue(ReplicaName, now, serverLife, x509.ExtKeyUsageClientAuth, nil, Cloud{})
}

func (a *Authority) issue(cn string, now time.Time, life time.Duration, use x509.ExtKeyUsage, hosts []string, cloud Cloud) (Bundle, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Bundle{}, err
	}
	tmpl, err := template(cn, now, life)
	if err != nil {
		return Bundle{}, err
	}
	tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{use}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.Cert, key.Public(), a.key)
	if err != nil {
		return Bundle{}, fmt.Errorf("certify %s: %w", cn, err)
	}
	return Bundle{Key: key, Cert: der, Serial: Serial(tmpl.SerialNumber), Root: a.Cert.Raw, Cloud: cloud}, nil
}

// Serial is a certificate's serial number as we write it everywhere: lower case hex.
func Serial(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

func template(cn string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and never shorter than 16 bytes
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: cn},
		NotBefore:    now.Add(-24 * time.Hour), // a device's clock may be behind
		NotAfter:     now.Add(life),
	}, nil
}

// Signer is the bundle's key for protocol/seal.
func (b Bundle) Signer() seal.Signer { return seal.Signer{Key: b.Key, KeyID: b.Serial} }

// Files of a bundle's folder.
const (
	keyFile   = "device.key"
	certFile  = "device.crt"
	rootFile  = "root.crt"
	cloudFile = "cloud.json"
)

// ErrExists means Write would overwrite a key: another identity lives in that folder.
var ErrExists = errors.New("an identity is there already")

// Write puts the bundle into dir: device.key (only its owner may read it), device.crt, root.crt and
// cloud.json. It refuses to overwrite a key.
func (b Bundle) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(b.Key)
	if err != nil {
		return err
	}
	cloud, err := json.MarshalIndent(b.Cloud, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, keyFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write identity to %s: %w; choose an empty folder", dir, ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		certFile:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Cert}),
		rootFile:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Root}),
		cloudFile: append(cloud, '\n'),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// PublicKeyOf is the ES256 key of a DER certificate that this authority signed, with its device id.
func (a *Authority) PublicKeyOf(der []byte, now time.Time) (protocol.DeviceID, *ecdsa.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, fmt.Errorf("certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", nil, fmt.Errorf("certificate of %q: %w", cert.Subject.CommonName, err)
	}
	id := protocol.DeviceID(cert.Subject.CommonName)
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || id.Check() != nil {
		return "", nil, fmt.Errorf("%w %q", ErrName, id)
	}
	return id, pub, nil
}
