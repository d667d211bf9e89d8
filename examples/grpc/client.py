"""Places an order by gRPC and asks for it."""

import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent))
orders_pb2, orders_pb2_grpc = grpc.protos_and_services("service.proto")

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080"
with grpc.insecure_channel(address) as channel:
    orders = orders_pb2_grpc.OrderServiceStub(channel)
    request = orders_pb2.CreateOrderRequest(customer_name="Ada", product_name="engine", quantity=2)
    created = orders.CreateOrder(request, timeout=10)
    order = orders.GetOrder(orders_pb2.GetOrderRequest(order_id=created.order_id), timeout=10)
    print(f"order {created.order_id}: {order.quantity} x {order.product_name} for {order.customer_name}")
    for bad in (
        lambda: orders.GetOrder(orders_pb2.GetOrderRequest(order_id="none"), timeout=10),
        lambda: orders.CreateOrder(orders_pb2.CreateOrderRequest(), timeout=10),
    ):
        try:
            bad()
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}")
