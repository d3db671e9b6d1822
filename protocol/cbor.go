package protocol

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Raw is an encoded value kept as it came.
type Raw = cbor.RawMessage

// MaxMessage is the most bytes one message may have, sealed or not.
const MaxMessage = 128 << 10

// ErrDecode is wrapped by every error of Decode: the bytes are not a well-formed message of the
// wanted type. Sending them again cannot help.
var ErrDecode = errors.New("malformed message")

var modes = sync.OnceValues(func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   10,
		MaxArrayElements:  4096,
		MaxMapPairs:       64,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// Encode writes v as core-deterministic CBOR. It fails only for types that cannot be encoded.
func Encode(v any) ([]byte, error) {
	enc, _ := modes()
	return enc.Marshal(v)
}

// MustEncode is Encode for the types of this package, which always encode.
func MustEncode(v any) []byte {
	b, err := Encode(v)
	if err != nil {
		panic(fmt.Sprintf("protocol: encode %T: %v", v, err))
	}
	return b
}

// Decode reads exactly one value into v, strictly. Errors wrap ErrDecode.
func Decode(b []byte, v any) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrDecode, len(b), MaxMessage)
	}
	_, dec := modes()
	if err := dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrDecode, v, err)
	}
	return nil
}

// DecodeExact is Decode for bytes that are hashed: it also refuses any encoding but the
// deterministic one, so that one value has one hash.
func DecodeExact(b []byte, v any) error {
	if err := Decode(b, v); err != nil {
		return err
	}
	again, err := Encode(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecode, err)
	}
	if !bytes.Equal(b, again) {
		return fmt.Errorf("%w: %T: not in deterministic encoding", ErrDecode, v)
	}
	return nil
}

// HashOf is the SHA-256 of v's encoding: ask_hash, answer_hash, the lines digest.
func HashOf(v any) Hash { return sha256.Sum256(MustEncode(v)) }

// HashBytes is the SHA-256 of b: blob_hash, a record's hash.
func HashBytes(b []byte) Hash { return sha256.Sum256(b) }
