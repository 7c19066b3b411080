import { Body, Controller, Get, HttpCode, HttpStatus, Param, Post, Query } from '@nestjs/common';
import { newOrder, orderId, orderPage, type NewOrder, type OrderPage } from './order-input.js';
import type { Order } from './order.entity.js';
import { OrdersService } from './orders.service.js';

@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Post()
  create(@Body({ schema: newOrder }) order: NewOrder): Promise<Order> {
    return this.orders.create(order);
  }

  @Get()
  list(@Query({ schema: orderPage }) page: OrderPage): Promise<Order[]> {
    return this.orders.list(page);
  }

  @Get(':id')
  get(@Param('id', { schema: orderId }) id: number): Promise<Order> {
    return this.orders.get(id);
  }

  @Post(':id/pay')
  @HttpCode(HttpStatus.OK)
  pay(@Param('id', { schema: orderId }) id: number): Promise<Order> {
    return this.orders.pay(id);
  }
}
