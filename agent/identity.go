package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"coinop/protocol"
	"coinop/protocol/seal"
)

// ErrIdentity means that a folder is not a device's identity, or not a whole one. The text names the
// file and what to do. It is permanent.
var ErrIdentity = errors.New("no usable identity")

// Identity is who a device is and whom it trusts: the folder that the cloud made for it.
type Identity struct {
	Device  protocol.DeviceID // the certificate's common name
	Signer  seal.Signer       // KeyID is the certificate's serial number, lower case hex
	Relay   seal.PublicKey    // opens our channels
	Payment seal.PublicKey    // opens our cards
	Cloud   *ecdsa.PublicKey  // signs checkpoints and policies

	cert tls.Certificate
	root *x509.CertPool
}

// Files of an identity's folder.
const (
	identityKey   = "device.key"
	identityCert  = "device.crt"
	identityRoot  = "root.crt"
	identityCloud = "cloud.json"
)

// LoadIdentity reads an identity's folder. It does not look at the certificate's dates: a machine
// whose clock has lost its battery still starts, and the connection names what is wrong.
func LoadIdentity(dir string) (Identity, error) {
	var id Identity
	cert, err := readCertificate(dir, identityCert)
	if err != nil {
		return id, err
	}
	der, err := readPEM(dir, identityKey, "PRIVATE KEY")
	if err != nil {
		return id, err
	}
	defer clear(der)
	private, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := private.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return id, broken(dir, identityKey, "not an ECDSA key in PKCS #8")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return id, broken(dir, identityKey, "not the key of "+identityCert+": the two are of different devices")
	}
	root, err := readCertificate(dir, identityRoot)
	if err != nil {
		return id, err
	}
	id.Device = protocol.DeviceID(cert.Subject.CommonName)
	if err := id.Device.Check(); err != nil {
		return id, broken(dir, identityCert, fmt.Sprintf("of %q: %v", id.Device, err))
	}
	id.Signer = seal.Signer{Key: key, KeyID: hex.EncodeToString(cert.SerialNumber.Bytes())}
	id.cert = tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	id.root = x509.NewCertPool()
	id.root.AddCert(root)
	return id, id.readCloud(dir)
}

func (id *Identity) readCloud(dir string) error {
	text, err := readFile(dir, identityCloud)
	if err != nil {
		return err
	}
	var c struct {
		Relay   []byte `json:"relay_key"`
		Payment []byte `json:"payment_key"`
		Signing []byte `json:"signing_key"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return broken(dir, identityCloud, err.Error())
	}
	if id.Relay, err = seal.ParsePublicKey(c.Relay); err != nil {
		return broken(dir, identityCloud, "relay_key: "+err.Error())
	}
	if id.Payment, err = seal.ParsePublicKey(c.Payment); err != nil {
		return broken(dir, identityCloud, "payment_key: "+err.Error())
	}
	public, err := x509.ParsePKIXPublicKey(c.Signing)
	key, ok := public.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return broken(dir, identityCloud, "signing_key: not an ECDSA key in PKIX")
	}
	id.Cloud = key
	return nil
}

// tls is how we speak with the broker at addr: both sides prove who they are.
func (id Identity) tls(addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return nil, fmt.Errorf("address of the cloud %q: want host:port, as in cloud.example.com:8883", addr)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: id.root, Certificates: []tls.Certificate{id.cert}}, nil
}

func readCertificate(dir, name string) (*x509.Certificate, error) {
	der, err := readPEM(dir, name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, broken(dir, name, err.Error())
	}
	return cert, nil
}

// readPEM is the one block of a file. Nothing of a key ever stands in an error.
func readPEM(dir, name, kind string) ([]byte, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, broken(dir, name, "want a PEM block "+kind)
	}
	return block.Bytes, nil
}

func readFile(dir, name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w in %s: %s is missing; the folder is the one that the cloud wrote when this device was added", ErrIdentity, dir, name)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w in %s: %s may not be read by the user that the agent runs as; check its owner", ErrIdentity, dir, name)
	case err != nil:
		return nil, fmt.Errorf("%w in %s: %w", ErrIdentity, dir, err)
	}
	return text, nil
}

func broken(dir, name, why string) error {
	return fmt.Errorf("%w in %s: %s is %s; copy the folder anew from the cloud", ErrIdentity, dir, name, why)
}
