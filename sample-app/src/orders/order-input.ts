import { z } from 'zod';

const LARGEST_INTEGER = 2_147_483_647;

export const orderId = z.coerce.number().int().min(1).max(LARGEST_INTEGER);

export const newOrder = z.strictObject({
  customer: z.string().trim().min(1).max(200),
  totalCents: z.number().int().min(1).max(LARGEST_INTEGER),
});
export type NewOrder = z.infer<typeof newOrder>;

export const orderPage = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  /** Only orders older than the one with this id. */
  before: orderId.optional(),
});
export type OrderPage = z.infer<typeof orderPage>;
