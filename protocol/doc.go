// Package protocol is what agents and the cloud say to each other: ids, time, topics, messages,
// records and the policy, with their one encoding.
//
// Everything on the wire and in a journal is core-deterministic CBOR (RFC 8949 section 4.2.1) of
// maps with small integer keys. Decoding is strict: size, nesting, duplicate keys, indefinite
// lengths and tags are refused before anything is built, and unknown keys are an error.
//
//	b, err := protocol.Encode(msg)          // any message below
//	err = protocol.Decode(b, &msg)          // strict; then msg.Check()
//	s, err := protocol.SealRecord(rec, pos) // a record's bytes and its place in the chain
//	rec, err := protocol.OpenRecord(s.Bytes)
//
// The package is pure: no clock, disk, network, goroutine or randomness.
package protocol
