package protocol

import (
	"encoding/hex"
	"strings"
)

// A sale is a trace (W3C Trace Context, level 1): its id is the trace's, and the random end of an id
// is the span's that is about it. So whoever knows a sale finds its trace, nobody has to remember one
// over a restart, and what the cloud does about the sale days later belongs to it too.

// TraceID and SpanID are those of OpenTelemetry.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// TraceOf is the trace of a sale.
func TraceOf(s SaleID) TraceID { return TraceID(s) }

// SpanOf is the span of what an id names: a sale, a payment, a vend.
func SpanOf[T ~[16]byte](id T) SpanID {
	b := [16]byte(id)
	return SpanID(b[8:])
}

// Traceparent is the header of a request for a payment of a sale. It is sampled: whoever gets it may
// decide otherwise.
func Traceparent(s SaleID, p PaymentID) string {
	trace, span := TraceOf(s), SpanOf(p)
	return "00-" + hex.EncodeToString(trace[:]) + "-" + hex.EncodeToString(span[:]) + "-01"
}

// ParseTraceparent reads one; ok is false for what the standard calls invalid.
func ParseTraceparent(text string) (t TraceID, s SpanID, ok bool) {
	part := strings.Split(text, "-")
	if len(part) < 4 || len(part[0]) != 2 || part[0] == "ff" || part[0] == "00" && len(part) != 4 || len(part[1]) != 32 || len(part[2]) != 16 || len(part[3]) != 2 ||
		strings.ToLower(text) != text {
		return t, s, false
	}
	for i, to := range [][]byte{make([]byte, 1), t[:], s[:], make([]byte, 1)} {
		if _, err := hex.Decode(to, []byte(part[i])); err != nil {
			return TraceID{}, SpanID{}, false
		}
	}
	return t, s, t != TraceID{} && s != SpanID{}
}
