// Package dialects is the data files that say how a host writes ISO 8583: which fields, of what
// format, how long. Codecs read them; there is no code here, so that two codecs which must not
// share any (the link's and the host simulator's) can share a dialect.
//
// A file is an object {name, source, bitmap, max_frame, fields}. A field, keyed by its number, is
// {name, format, length, max}:
//
//	format  n digits, padded left with 0; an letters, digits, spaces, padded right with spaces;
//	        ans printable ASCII, padded so; z digits and '=' (track 2); x+n C or D and digits;
//	        b-hex bytes as two hex digits each; b-raw bytes as they are
//	length  fixed, or ll / lll: the length stands before the value in 2 or 3 decimal digits
//	max     characters on the line (bytes for b-raw): exactly for fixed, at most otherwise
//
// bitmap hex writes each bitmap as 16 hex digits. max_frame is the longest message in bytes,
// without the length before it.
package dialects

import _ "embed"

// ASCII87 is ISO 8583:1987 in ASCII, as the most common test hosts speak it.
//
//go:embed ascii87.json
var ASCII87 []byte
