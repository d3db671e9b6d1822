package protocol

import (
	"strings"
	"testing"
)

// TestTraceparent: the example of W3C Trace Context 3.2.2, and what it calls invalid.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	const example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	trace, span, ok := ParseTraceparent(example)
	if !ok || trace[0] != 0x4b || trace[15] != 0x36 || span != (SpanID{0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}) {
		t.Error(trace, span, ok)
	}
	if _, _, ok := ParseTraceparent(strings.Replace(example, "00-", "01-", 1) + "-more"); !ok {
		t.Error("a later version is refused")
	}
	for _, bad := range []string{
		"", "00", example[:54], example + "-x", strings.ToUpper(example), strings.Replace(example, "00-", "ff-", 1),
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
	} {
		if _, _, ok := ParseTraceparent(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	sale, payment := SaleID{1, 15: 2}, PaymentID{3, 15: 4}
	trace, span, ok = ParseTraceparent(Traceparent(sale, payment))
	if !ok || trace != TraceOf(sale) || span != SpanOf(payment) || span[7] != 4 {
		t.Error(trace, span, ok)
	}
}
