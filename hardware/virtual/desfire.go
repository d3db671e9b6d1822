package virtual

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
)

// DESFire is an application of a DESFire card: one AES key, number 0, and one file that is read behind it in
// plain. Every answer after the proof carries eight bytes of a CMAC chain (MF3ICD81).
type DESFire struct {
	AID    [3]byte
	Key    []byte
	FileNo byte
	File   []byte

	selected bool
	version  int
	rndB     []byte
	count    byte
	session  cipher.Block
	chain    []byte
}

func (d *DESFire) reset() {
	d.selected, d.version, d.rndB, d.session, d.chain = false, 0, nil, nil, nil
}

func status(data []byte, s byte) []byte { return append(bytes.Clone(data), 0x91, s) }

// apdu answers one, wrapped in ISO 7816-4.
func (d *DESFire) apdu(b []byte, spoil bool) []byte {
	if len(b) < 5 || b[0] != 0x90 {
		return []byte{0x6E, 0x00}
	}
	var args []byte
	if len(b) > 5 {
		if n := int(b[4]); len(b) != n+6 {
			return []byte{0x67, 0x00}
		}
		args = b[5 : len(b)-1]
	}
	switch b[1] {
	case 0x60:
		d.version = 1
		return status([]byte{0x04, 0x01, 0x01, 0x01, 0x00, 0x18, 0x05}, 0xAF)
	case 0xAF:
		return d.more(args, spoil)
	case 0x5A:
		d.reset()
		if len(args) != 3 || args[0] != d.AID[2] || args[1] != d.AID[1] || args[2] != d.AID[0] {
			return status(nil, 0xA0)
		}
		d.selected = true
		return status(nil, 0x00)
	case 0xAA:
		if !d.selected || len(args) != 1 || args[0] != 0 {
			return status(nil, 0x40)
		}
		d.count++
		h := sha256.Sum256(append([]byte{d.count}, d.Key...))
		d.rndB = h[:16]
		d.chain = make([]byte, 16)
		return status(d.cbc(true, d.rndB), 0xAF)
	case 0xBD:
		return d.read(args, spoil)
	}
	return status(nil, 0x1C)
}

// more is the next part of a version, or the host's proof.
func (d *DESFire) more(args []byte, spoil bool) []byte {
	switch {
	case d.rndB != nil && len(args) == 32:
		token := d.cbc(false, args)
		rndA := token[:16]
		ok := bytes.Equal(token[16:31], d.rndB[1:]) && token[31] == d.rndB[0]
		rndB := d.rndB
		d.rndB = nil
		if !ok {
			return status(nil, 0xAE)
		}
		proof := d.cbc(true, append(bytes.Clone(rndA[1:]), rndA[0]))
		if spoil {
			proof[0] ^= 1
		}
		key := append(append(append(bytes.Clone(rndA[:4]), rndB[:4]...), rndA[12:]...), rndB[12:]...)
		d.session, _ = aes.NewCipher(key)
		d.chain = make([]byte, 16)
		return status(proof, 0x00)
	case d.version == 1:
		d.version = 2
		return status([]byte{0x04, 0x01, 0x01, 0x01, 0x04, 0x18, 0x05}, 0xAF)
	case d.version == 2:
		d.version = 0
		return status(make([]byte, 14), 0x00)
	}
	return status(nil, 0xCA)
}

// read is ReadData: file, offset, length.
func (d *DESFire) read(args []byte, spoil bool) []byte {
	if d.session == nil {
		return status(nil, 0xAE)
	}
	if len(args) != 7 || args[0] != d.FileNo {
		return status(nil, 0xF0)
	}
	d.mac(append([]byte{0xBD}, args...))
	from, n := int(args[1]), int(args[4])
	if from+n > len(d.File) {
		return status(nil, 0xBE)
	}
	data := bytes.Clone(d.File[from : from+n])
	mac := d.mac(append(bytes.Clone(data), 0x00))
	if spoil {
		mac[0] ^= 1
	}
	return status(append(data, mac[:8]...), 0x00)
}

// cbc en- or decrypts with the application's key, going on from the last block on the wire.
func (d *DESFire) cbc(encrypt bool, b []byte) []byte {
	c, err := aes.NewCipher(d.Key)
	if err != nil {
		panic("virtual: a key of a wrong size")
	}
	out := make([]byte, len(b))
	if encrypt {
		cipher.NewCBCEncrypter(c, d.chain).CryptBlocks(out, b)
		d.chain = out[len(out)-16:]
	} else {
		cipher.NewCBCDecrypter(c, d.chain).CryptBlocks(out, b)
		d.chain = b[len(b)-16:]
	}
	d.chain = bytes.Clone(d.chain)
	return out
}

// mac goes on with the chain of CMACs: CBC of the padded message, its last block mixed with a subkey.
func (d *DESFire) mac(msg []byte) []byte {
	subkey := make([]byte, 16)
	d.session.Encrypt(subkey, subkey)
	times := 1
	if len(msg) == 0 || len(msg)%16 != 0 {
		times, msg = 2, append(bytes.Clone(msg), 0x80)
		msg = append(msg, make([]byte, (16-len(msg)%16)%16)...)
	}
	for range times {
		var carry byte
		for i := 15; i >= 0; i-- {
			subkey[i], carry = subkey[i]<<1|carry, subkey[i]>>7
		}
		if carry == 1 {
			subkey[15] ^= 0x87
		}
	}
	msg = bytes.Clone(msg)
	for i, x := range subkey {
		msg[len(msg)-16+i] ^= x
	}
	out := make([]byte, len(msg))
	cipher.NewCBCEncrypter(d.session, d.chain).CryptBlocks(out, msg)
	d.chain = bytes.Clone(out[len(out)-16:])
	return bytes.Clone(d.chain)
}
