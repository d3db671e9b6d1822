package main

import (
	"context"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"coinop/cloud"
)

func main() {
	runtime.SetBlockProfileRate(1000000)
	runtime.SetMutexProfileFraction(1000)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go http.ListenAndServe("127.0.0.1:6061", nil)
	cloud.PaceCollector()
	err := cloud.Run(ctx, cloud.Config{Dir: os.Args[1], Listen: "127.0.0.1:0", Ready: func(a string) { os.WriteFile(os.Args[3], []byte(a), 0o600) },
		Acquirers: []cloud.Acquirer{{Name: "bank", Addr: os.Args[2], Institution: "1"}}})
	if err != nil {
		println(err.Error())
	}
}
