// Command main makes a round with the client that oapi-codegen generated.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/fanfarehq/fanfare/deploy/clients/client"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tenant := "oapi"
	c, err := client.NewClientWithResponses(os.Args[1], client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Args[2])
		return nil
	}))
	must(err)
	made, err := c.CreateSubscriptionWithResponse(ctx, &client.CreateSubscriptionParams{Tenant: &tenant},
		client.NewSubscription{Url: os.Args[3], EventTypes: []string{"order.*"}})
	must(err)
	var event client.PublishRequest
	must(event.FromNewEvent(client.NewEvent{Type: "order.created", Data: map[string]any{"total": 12.5}}))
	accepted, err := c.PublishEventsWithResponse(ctx, &client.PublishEventsParams{Tenant: &tenant}, event)
	must(err)
	published, err := accepted.JSON202.AsPublishedEvent()
	must(err)
	var deliveries *client.ListSubscriptionDeliveriesResponse
	for deliveries == nil || len(deliveries.JSON200.Data) == 0 || deliveries.JSON200.Data[0].State != "delivered" {
		deliveries, err = c.ListSubscriptionDeliveriesWithResponse(ctx, made.JSON201.Id, &client.ListSubscriptionDeliveriesParams{Tenant: &tenant})
		must(err)
	}
	read, err := c.GetEventWithResponse(ctx, published.Id, &client.GetEventParams{Tenant: &tenant})
	must(err)
	if read.JSON200.Matched != 1 {
		panic(fmt.Sprintf("event %s", read.Body))
	}
	id := deliveries.JSON200.Data[0].Id
	delivery, err := c.GetDeliveryWithResponse(ctx, id, &client.GetDeliveryParams{Tenant: &tenant})
	must(err)
	if delivery.JSON200.EventId != published.Id || delivery.JSON200.SubscriptionId != made.JSON201.Id {
		panic(fmt.Sprintf("delivery %s", delivery.Body))
	}
	again, err := c.RetryDeliveryWithResponse(ctx, id, &client.RetryDeliveryParams{Tenant: &tenant})
	must(err)
	if again.JSON202.Generation != 1 || again.JSON202.Id == id {
		panic(fmt.Sprintf("retried %s", again.Body))
	}
}
