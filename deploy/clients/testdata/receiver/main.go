// Command main receives a webhook with the server that ogen generated from the catalog.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/fanfarehq/fanfare/deploy/clients/client"
)

// receiver passes on the orders that come.
type receiver struct{ orders chan *client.OrderCreated }

func (r receiver) OrderCreated(_ context.Context, in *client.OrderCreatedReq, params client.OrderCreatedParams) (client.OrderCreatedRes, error) {
	if params.WebhookID == "" || params.WebhookSignature == "" || in.Timestamp.IsZero() {
		panic(fmt.Sprintf("got %+v, %+v", params, in))
	}
	r.orders <- &in.Data
	return &client.Received{StatusCode: http.StatusOK}, nil
}

func post(url, body string) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+os.Args[2])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		panic(fmt.Sprintf("%s: %d %s", url, resp.StatusCode, text))
	}
}

func main() {
	r := receiver{make(chan *client.OrderCreated, 10)}
	hooks, err := client.NewWebhookServer(r)
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(hooks.Handler("order.created"))
	defer server.Close()
	tenant := "?tenant=" + os.Args[3]
	post(os.Args[1]+"/v1/subscriptions"+tenant, `{"url":"`+server.URL+`","event_types":["order.created"]}`)
	post(os.Args[1]+"/v1/events"+tenant, `{"type":"order.created","data":{"order":"o_17","lines":[{"sku":"s","count":2}]}}`)
	select {
	case order := <-r.orders:
		if order.Order != "o_17" || len(order.Lines) != 1 || order.Lines[0].Count.Value != 2 {
			panic(fmt.Sprintf("got %+v", order))
		}
	case <-time.After(2 * time.Minute):
		panic("no webhook came")
	}
}
