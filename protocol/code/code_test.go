package code

import (
	"regexp"
	"testing"
)

func TestCatalogue(t *testing.T) {
	form, seen := regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)?$`), map[Code]bool{}
	for _, f := range All() {
		if seen[f.Code] || !form.MatchString(string(f.Code)) {
			t.Errorf("%q: twice, or of another form", f.Code)
		}
		seen[f.Code] = true
		if f.Cause == "" || f.Next == "" && f.Code != StorageOK {
			t.Errorf("%s does not say what it is and what to do", f.Code)
		}
		if Of(f.Code) != f {
			t.Errorf("Of(%s) is %+v", f.Code, Of(f.Code))
		}
	}
	if f := Of("no.such"); f.Code != "no.such" || f.Sells {
		t.Errorf("%+v", f)
	}
}
