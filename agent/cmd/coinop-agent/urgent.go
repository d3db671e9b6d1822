package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgency is the nice value of an agent that runs.
const urgency = -10

// urgent lets this process's threads go before others that want a CPU: a bus waits 5 ms for an answer, whatever
// else the box computes, and an answer takes some hundredths of a millisecond. It needs root, CAP_SYS_NICE or a limit (LimitNICE=
// of a unit); without, and where somebody has chosen a nice value, all stays as it is.
func urgent() {
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || nice != 20 { // the system call's own form: 20 is 0
		return
	}
	for range 2 { // a thread made meanwhile has its maker's value
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				_ = unix.Setpriority(unix.PRIO_PROCESS, id, urgency)
			}
		}
	}
}
