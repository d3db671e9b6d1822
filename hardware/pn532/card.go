package pn532

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"

	"coinop/hardware"
)

// Target is a card in the field, as InListPassiveTarget tells it (UM0701-02, 7.3.5; 106 kbit/s type A).
type Target struct {
	Tg   byte
	ATQA [2]byte
	SAK  byte
	UID  []byte
	ATS  []byte // of an ISO 14443-4 card
}

// layer4 reports that it speaks ISO 14443-4 (bit 6 of SAK; ISO 14443-3, 6.5.3.4).
func (t Target) layer4() bool { return t.SAK&0x20 != 0 }

// classic reports a MIFARE Classic: bit 4 of SAK (NXP AN10833, table 6).
func (t Target) classic() bool { return t.SAK&0x08 != 0 && !t.layer4() }

// errTarget is an answer that names no target as it should.
var errTarget = errors.New("not a list of targets")

// ParseTargets reads the data of InListPassiveTarget's answer: how many, and each with its number, ATQA, SAK,
// and UID and, of an ISO 14443-4 card, ATS behind their lengths.
func ParseTargets(b []byte) ([]Target, error) {
	if len(b) == 0 || b[0] > 2 {
		return nil, errTarget
	}
	out := make([]Target, 0, b[0])
	n, b := int(b[0]), b[1:]
	for range n {
		if len(b) < 5 || len(b) < 5+int(b[4]) {
			return nil, errTarget
		}
		t := Target{Tg: b[0], ATQA: [2]byte(b[1:3]), SAK: b[3], UID: bytes.Clone(b[5 : 5+int(b[4])])}
		if l := len(t.UID); l != 4 && l != 7 && l != 10 {
			return nil, errTarget
		}
		if b = b[5+len(t.UID):]; t.layer4() && len(b) > 0 {
			l := int(b[0]) // counts itself
			if l == 0 || len(b) < l {
				return nil, errTarget
			}
			t.ATS, b = bytes.Clone(b[1:l]), b[l:]
		}
		out = append(out, t)
	}
	if len(b) > 0 {
		return nil, errTarget
	}
	return out, nil
}

// talk is what is said with one card. next takes the card's answer to what was sent last (nil at first) and
// gives what is sent to it next; or nothing, and then how it ended.
type talk interface {
	next(answer []byte) (send []byte, err error)
	reference() []byte
}

// Why a talk ended without a reference.
var (
	errForeign  = errors.New("the card knows nothing of us")     // no such application, file or key
	errNonsense = errors.New("the card's answer makes no sense") // or a proof in it is wrong
)

// classicTalk authenticates a block's sector with key A and reads the block (MF1S50YYX, 10.1, 10.2).
type classicTalk struct {
	keys hardware.LoopKeys
	uid  []byte
	step int
	got  []byte
}

// MIFARE commands (MF1S50YYX, table 9).
const (
	mifareAuthA = 0x60
	mifareRead  = 0x30
)

func (c *classicTalk) next(answer []byte) ([]byte, error) {
	c.step++
	switch c.step {
	case 1:
		key := c.keys.Classic.Reveal()
		defer clear(key)
		b := append([]byte{mifareAuthA, c.keys.Block}, key...)
		return append(b, c.uid[len(c.uid)-4:]...), nil // of a longer UID the last four (AN10927, 3.2.5)
	case 2:
		return []byte{mifareRead, c.keys.Block}, nil
	}
	if len(answer) != 16 {
		return nil, errNonsense
	}
	c.got = answer
	return nil, nil
}

func (c *classicTalk) reference() []byte { return c.got }

// DESFire commands, wrapped as 90 INS 00 00 Lc data 00, and the second bytes of their status 91xx (MF3ICD81, table 21; AN12757).
const (
	desfireVersion = 0x60
	desfireSelect  = 0x5A
	desfireAuthAES = 0xAA
	desfireMore    = 0xAF
	desfireRead    = 0xBD
	swOK           = 0x00
	swMore         = 0xAF
	swAuth         = 0xAE
	swDenied       = 0x9D
	swNoApp        = 0xA0
	swNoFile       = 0xF0
	swNoKey        = 0x40
)

// desfireTalk reads a data file of an application behind its AES key: version, SelectApplication,
// AuthenticateAES in two parts, ReadData. After it every command and answer is in a chain of CMACs, so what
// is read comes from the card that knew the key.
type desfireTalk struct {
	keys    hardware.LoopKeys
	random  func([]byte) // RndA
	step    int
	rndA    []byte
	session []byte // key
	iv      []byte // of the chain
	parts   int    // of the version
	got     []byte
}

// wrap is a native command in ISO 7816-4's clothes.
func wrap(ins byte, data ...byte) []byte {
	b := []byte{0x90, ins, 0x00, 0x00}
	if len(data) > 0 {
		b = append(append(b, byte(len(data))), data...)
	}
	return append(b, 0x00)
}

func unwrap(answer []byte) (data []byte, status byte, err error) {
	n := len(answer) - 2
	if n < 0 || answer[n] != 0x91 {
		return nil, 0, errForeign // 6Dxx, 6Exx: no DESFire
	}
	switch status = answer[n+1]; status {
	case swOK, swMore:
		return answer[:n], status, nil
	case swAuth, swDenied, swNoApp, swNoFile, swNoKey:
		return nil, 0, errForeign
	}
	return nil, 0, errNonsense
}

func (d *desfireTalk) next(answer []byte) ([]byte, error) {
	if d.step == 0 {
		d.step = 1
		return wrap(desfireVersion), nil
	}
	data, status, err := unwrap(answer)
	if err != nil {
		return nil, err
	}
	switch d.step {
	case 1: // hardware, software, production: three parts
		if d.parts++; status == swMore && d.parts < 4 {
			return wrap(desfireMore), nil
		}
		d.step = 2
		a := d.keys.AID // the wire's order is LSB first
		return wrap(desfireSelect, a[2], a[1], a[0]), nil
	case 2:
		d.step = 3
		return wrap(desfireAuthAES, d.keys.KeyNo), nil
	case 3:
		d.step = 4
		return d.prove(data, status)
	case 4:
		d.step = 5
		return d.proved(data, status)
	}
	return nil, d.read(data, status)
}

// prove answers the card's challenge (MF3ICD81, AuthenticateAES): E(RndA, RndB rotated left by a byte), CBC going on from what came.
func (d *desfireTalk) prove(challenge []byte, status byte) ([]byte, error) {
	if len(challenge) != aes.BlockSize || status != swMore {
		return nil, errNonsense
	}
	c := d.key()
	rndB := make([]byte, aes.BlockSize)
	cipher.NewCBCDecrypter(c, make([]byte, aes.BlockSize)).CryptBlocks(rndB, challenge)
	d.rndA = make([]byte, aes.BlockSize)
	d.random(d.rndA)
	token := append(bytes.Clone(d.rndA), rotated(rndB)...)
	cipher.NewCBCEncrypter(c, challenge).CryptBlocks(token, token)
	d.iv = token[aes.BlockSize:]
	a, b := d.rndA, rndB
	d.session = bytes.Join([][]byte{a[:4], b[:4], a[12:], b[12:]}, nil)
	return wrap(desfireMore, token...), nil
}

// proved checks the card's own proof, E(RndA rotated), and asks for the file.
func (d *desfireTalk) proved(proof []byte, status byte) ([]byte, error) {
	if len(proof) != aes.BlockSize || status != swOK {
		return nil, errNonsense
	}
	got := make([]byte, aes.BlockSize)
	cipher.NewCBCDecrypter(d.key(), d.iv).CryptBlocks(got, proof)
	if subtle.ConstantTimeCompare(got, rotated(d.rndA)) != 1 {
		return nil, errNonsense
	}
	args := []byte{d.keys.File, 0, 0, 0, 16, 0, 0} // file, offset and length, LSB first
	d.iv = hardware.CMAC(d.session, nil, append([]byte{desfireRead}, args...))
	return wrap(desfireRead, args...), nil
}

// read takes the file's bytes; behind them stand eight of the chain's CMAC.
func (d *desfireTalk) read(data []byte, status byte) error {
	n := len(data) - 8
	if n != 16 || status != swOK {
		return errNonsense
	}
	mac := hardware.CMAC(d.session, d.iv, append(bytes.Clone(data[:n]), status))
	if subtle.ConstantTimeCompare(mac[:8], data[n:]) != 1 {
		return errNonsense
	}
	d.got = bytes.Clone(data[:n])
	return nil
}

func (d *desfireTalk) reference() []byte { return d.got }

func (d *desfireTalk) key() cipher.Block {
	key := d.keys.DESFire.Reveal()
	defer clear(key)
	c, err := aes.NewCipher(key)
	if err != nil {
		panic("pn532: a key of a wrong size") // sizes are checked where keys come in
	}
	return c
}

func rotated(b []byte) []byte { return append(bytes.Clone(b[1:]), b[0]) }
