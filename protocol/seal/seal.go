// Package seal protects messages: COSE_Sign1 for what must convince a third party later, a channel
// of COSE_Encrypt0 for what must convince only the other end now, HPKE for card data.
package seal
