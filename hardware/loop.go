package hardware

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LoopCard is a closed-loop card: one of the operator's own, whose value is in the cloud. What the card
// itself holds is its reference, 16 bytes that cannot be moved to another card:
//
//	01, ID (5 bytes), counter (2 bytes, MSB first), CMAC (8 bytes)
//
// CMAC is the first half of AES-CMAC (RFC 4493) under the operator's key over the 8 bytes before it and
// the chip's own number. There is no amount in it.
type LoopCard struct {
	UID      []byte // the chip's number; empty where a contact card has none
	ATR      []byte // as a PC/SC reader gives it
	Ref      string // of a stripe, in place of all else: a hash of its number; anyone can copy a stripe
	ID       string // ten hex digits; empty without keys: then only the chip's number is known, which anyone can copy
	Counter  uint16 // how often the card was written
	Verified bool   // the reference was there, and its CMAC right
}

// IsZero reports that it is none.
func (l LoopCard) IsZero() bool { return len(l.UID) == 0 && len(l.ATR) == 0 && l.Ref == "" }

// referenceSize is what a card holds for us: one block of a MIFARE Classic.
const referenceSize = 16

const referenceVersion = 0x01

// Why a card's reference is not taken.
var (
	ErrNoReference = errors.New("the card holds no reference of ours")
	ErrWrongMAC    = errors.New("the card's reference was not made for this card with this key")
)

// LoopKeys is what opens the operator's cards and proves them. It prints nothing of itself.
type LoopKeys struct {
	MAC     Hidden // 16 bytes: of the reference's CMAC
	Classic Hidden // 6 bytes: key A of the sector; none: MIFARE Classic cards are not read
	Block   byte   // where the reference is on a MIFARE Classic
	DESFire Hidden // 16 bytes: AES key of the application; none: DESFire cards are not read
	AID     [3]byte
	KeyNo   byte
	File    byte
}

// IsZero reports that there are none.
func (k LoopKeys) IsZero() bool { return k.MAC.Len() == 0 }

// ParseLoopKeys reads a file of keys, a line each, # begins a comment:
//
//	mac 000102030405060708090A0B0C0D0E0F
//	classic 4 FFFFFFFFFFFF                                    block, key A
//	desfire F00001 0 1 000102030405060708090A0B0C0D0E0F       application, key number, file, key
//
// mac is needed. An error names the line, and nothing of it.
func ParseLoopKeys(text []byte) (k LoopKeys, err error) {
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		ok := true
		switch {
		case len(w) == 0:
		case w[0] == "mac" && len(w) == 2:
			k.MAC, ok = hidden(w[1], aes.BlockSize)
		case w[0] == "classic" && len(w) == 3:
			k.Block, ok = small(w[1], 255)
			if ok {
				k.Classic, ok = hidden(w[2], 6)
			}
			ok = ok && k.Block != 0 && k.Block%4 != 3 // the maker's block, and trailers
		case w[0] == "desfire" && len(w) == 5:
			aid, err := hex.DecodeString(w[1])
			var ok1, ok2, ok3 bool
			k.KeyNo, ok1 = small(w[2], 13)
			k.File, ok2 = small(w[3], 31)
			k.DESFire, ok3 = hidden(w[4], aes.BlockSize)
			if ok = err == nil && len(aid) == 3 && ok1 && ok2 && ok3; ok {
				copy(k.AID[:], aid)
			}
		default:
			ok = false
		}
		if !ok {
			return LoopKeys{}, fmt.Errorf("line %d is none of mac KEY, classic BLOCK KEY, desfire APPLICATION KEYNUMBER FILE KEY", i+1)
		}
	}
	if k.MAC.Len() == 0 {
		return LoopKeys{}, errors.New("there is no line mac KEY")
	}
	return k, nil
}

func hidden(s string, size int) (Hidden, bool) {
	b, err := hex.DecodeString(s)
	return Hide(b), err == nil && len(b) == size
}

func small(s string, most uint64) (byte, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return byte(n), err == nil && n <= most
}

// Reference is what is written on the card with that chip number. id is at most 5 bytes.
func (k LoopKeys) Reference(id uint64, counter uint16, uid []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, id&(1<<40-1))[2:]
	b[0] = referenceVersion
	b = binary.BigEndian.AppendUint16(b, counter)
	return append(b, k.mac(b, uid)[:8]...)
}

// Open reads a reference: ErrNoReference, ErrWrongMAC.
func (k LoopKeys) Open(ref, uid []byte) (LoopCard, error) {
	if len(ref) < referenceSize || ref[0] != referenceVersion || k.IsZero() {
		return LoopCard{}, ErrNoReference
	}
	if subtle.ConstantTimeCompare(k.mac(ref[:8], uid)[:8], ref[8:referenceSize]) != 1 {
		return LoopCard{}, ErrWrongMAC
	}
	return LoopCard{
		UID: bytes.Clone(uid), ID: hex.EncodeToString(ref[1:6]), Counter: binary.BigEndian.Uint16(ref[6:]), Verified: true,
	}, nil
}

func (k LoopKeys) mac(head, uid []byte) []byte {
	key := k.MAC.Reveal()
	defer clear(key)
	return CMAC(key, nil, append(bytes.Clone(head), uid...))
}

// CMAC is AES-CMAC, RFC 4493. iv is what the chain begins with, as DESFire cards use it; nil: zeros, the RFC's.
func CMAC(key, iv, msg []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic("hardware: a key of a wrong size") // sizes are checked where keys come in
	}
	sub := make([]byte, aes.BlockSize)
	c.Encrypt(sub, sub)
	double(sub) // K1
	n := max(0, (len(msg)-1)/aes.BlockSize) * aes.BlockSize
	last := make([]byte, aes.BlockSize)
	if rest := copy(last, msg[n:]); rest < aes.BlockSize {
		last[rest] = 0x80
		double(sub) // K2
	}
	x := make([]byte, aes.BlockSize)
	copy(x, iv)
	for i := 0; i < n; i += aes.BlockSize {
		xor(c, x, msg[i:])
	}
	subtle.XORBytes(last, last, sub)
	xor(c, x, last)
	return x
}

func xor(c cipher.Block, x, b []byte) {
	subtle.XORBytes(x, x, b[:aes.BlockSize])
	c.Encrypt(x, x)
}

// double is multiplication by x in GF(2^128), RFC 4493, 2.3.
func double(b []byte) {
	top := b[0] >> 7
	for i := range b {
		b[i] <<= 1
		if i+1 < len(b) {
			b[i] |= b[i+1] >> 7
		}
	}
	b[len(b)-1] ^= 0x87 * top
}
