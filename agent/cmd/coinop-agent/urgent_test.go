package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUrgent: a process of its own says what nice value its threads have, those of before and those of after.
func TestUrgent(t *testing.T) {
	if was := os.Getenv("COINOP_URGENT"); was != "" {
		nice, err := strconv.Atoi(was)
		if err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread()
		if unix.Setpriority(unix.PRIO_PROCESS, 0, -1) != nil {
			fmt.Println("may not")
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
		if nice != 0 {
			each(t, func(id int) { _ = unix.Setpriority(unix.PRIO_PROCESS, id, nice) })
		}
		thread := func() {
			ready := make(chan struct{})
			go func() { runtime.LockOSThread(); close(ready); select {} }()
			<-ready
		}
		thread()
		urgent()
		thread()
		each(t, func(id int) {
			is, err := unix.Getpriority(unix.PRIO_PROCESS, id)
			fmt.Println("nice", 20-is, err)
		})
		return
	}
	t.Parallel()
	for was, want := range map[int]int{0: urgency, 5: 5} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestUrgent$")
		cmd.Env = append(os.Environ(), fmt.Sprint("COINOP_URGENT=", was))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if was == 0 && strings.Contains(string(out), "may not") {
			want = 0
		}
		threads := strings.Count(string(out), "nice ")
		if same := strings.Count(string(out), fmt.Sprintf("nice %d <nil>\n", want)); threads < 3 || same != threads {
			t.Errorf("from %d: want %d of all\n%s", was, want, out)
		}
	}
}

// each calls f for each thread of this process.
func each(t *testing.T, f func(id int)) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range threads {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			f(id)
		}
	}
}
