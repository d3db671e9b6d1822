package protocol

import "testing"

// FuzzTopic: a topic that parses is the one its parts make.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"coinop/v1/snack-1/up/auth", "coinop/v1//up/auth", "coinop/v1/+/up/#", "$share/g/coinop/v1/a/up/auth", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, l, err := ParseTopic(Topic(s))
		if err == nil && TopicOf(d, l) != Topic(s) {
			t.Fatalf("%q is %q %q", s, d, l)
		}
	})
}

// FuzzID: an id that parses prints as it was written, in lower case.
func FuzzID(f *testing.F) {
	f.Add("0190163d-8694-739b-aea5-966c26f8ad91")
	f.Add("0190163d-8694-739b-aea5-966c26f8ad9")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID[saleTag](s)
		if err != nil {
			return
		}
		if again, err := ParseID[saleTag](id.String()); err != nil || again != id {
			t.Fatalf("%q %v", id, err)
		}
	})
}
