package main

import (
	"strings"
	"testing"
)

// TestCashCommands: what is wrong is said, and what to do.
func TestCashCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"cash", "report"}, "--data is missing"},
		{[]string{"cash", "report", "--data", dir}, "is " + dir + " the folder that the agent runs with?"},
		{[]string{"cash", "collect", "--data", dir, "--person", "ana", "--bag", "1"}, "no agent runs with this data folder"},
		{[]string{"cash", "count", "--data", dir}, "no agent runs with this data folder"},
		{[]string{"dex", "write", "--data", dir}, "--out is missing"},
		{[]string{"dex", "write", "--data", dir, "--out", dir + "/x"}, "is " + dir + " the folder that the agent runs with?"},
		{[]string{"dex", "read", "--data", dir}, "no agent runs with this data folder"},
	} {
		if code, _, errs := call(t, nil, c.args...); !refused(code) || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %d %s", c.args, code, errs)
		}
	}
}
