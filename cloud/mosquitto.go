package cloud

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"coinop/deploy/mosquitto"
)

// WriteMosquitto writes into at.Dir what a Mosquitto needs to be the broker of this cloud: its
// configuration and access list, a key and a certificate for hosts, the two roots, and the list of
// machines' certificates that are revoked. Done again it renews certificate and revocations and
// leaves the configuration and the access list as they are.
func (p Place) WriteMosquitto(ctx context.Context, at mosquitto.Place, hosts []string) error {
	st, keys, _, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	devices, err := st.Devices(ctx)
	if err != nil {
		return err
	}
	var serials []string
	for _, d := range devices {
		serials = append(serials, d.Revocations()...)
	}
	revoked, err := keys.Authority.Revoked(serials, time.Now())
	if err != nil {
		return err
	}
	server, err := keys.Authority.Server(hosts, time.Now())
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.Key)
	if err != nil {
		return err
	}
	conf, err := at.Conf()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at.Dir, 0o750); err != nil {
		return err
	}
	for name, text := range map[string]string{mosquitto.ConfFile: conf, mosquitto.ACLFile: mosquitto.ACL()} {
		path := filepath.Join(at.Dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
		mode       fs.FileMode
	}{
		{mosquitto.RootFile, "CERTIFICATE", keys.Authority.Cert.Raw, 0o644},
		{mosquitto.ReplicasFile, "CERTIFICATE", keys.Replicas.Cert.Raw, 0o644},
		{mosquitto.ServerKeyFile, "PRIVATE KEY", key, 0o600},
		{mosquitto.ServerFile, "CERTIFICATE", server.Cert, 0o644},
		{mosquitto.RevokedFile, "X509 CRL", revoked, 0o644},
	} {
		if err := os.WriteFile(filepath.Join(at.Dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), f.mode); err != nil {
			return err
		}
	}
	return nil
}
