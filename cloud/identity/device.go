package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"

	"coinop/cloud/acquirer"
	"coinop/protocol"
)

// Device is a registered device: who it is, whose it is, and where its money goes.
type Device struct {
	ID       protocol.DeviceID `cbor:"1,keyasint"`
	Tenant   string            `cbor:"2,keyasint"`
	Serial   string            `cbor:"3,keyasint"` // of its certificate, hex
	Key      []byte            `cbor:"4,keyasint"` // its public key, PKIX DER
	Revoked  bool              `cbor:"5,keyasint,omitempty"`
	Link     string            `cbor:"6,keyasint"`           // name of the link to its acquirer; "" = none
	Merchant acquirer.Merchant `cbor:"7,keyasint"`           // TID, MID and what else the contract says
	Old      []string          `cbor:"8,keyasint,omitempty"` // serials of its certificates before; none is good any more
}

// Revocations are the serials of a device's certificates that nobody is to take any more.
func (d Device) Revocations() []string {
	if d.Revoked {
		return append(slices.Clone(d.Old), d.Serial)
	}
	return d.Old
}

// PublicKey parses Key.
func (d Device) PublicKey() (*ecdsa.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(d.Key)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", d.ID, err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key of %s: not an ECDSA key", d.ID)
	}
	return pub, nil
}
