package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// captured counts, page by page, the sales that the cloud's HTTP interface shows as captured.
func captured(ctx context.Context, addr string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	n := 0
	for next := ""; ; {
		var page struct {
			Sales []struct{ ID string }
			Next  string
		}
		url := "http://" + addr + "/api/v1/sales?state=captured&limit=20"
		if next != "" {
			url += "&before=" + next
		}
		if err := fetch(ctx, url, &page); err != nil {
			return 0, err
		}
		n += len(page.Sales)
		if next = page.Next; next == "" {
			return n, nil
		}
	}
}

func fetch(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}
