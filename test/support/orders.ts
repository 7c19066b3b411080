import { Injectable, Module } from '@nestjs/common';
import { InjectDataSource, InjectEntityManager, InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, EntityManager, PrimaryColumn, Repository } from 'typeorm';

@Entity()
export class Order {
  @PrimaryColumn('int')
  id!: number;

  @Column('boolean', { default: false })
  paid!: boolean;
}

/** What applications inject, and how they use it. */
@Injectable()
export class Orders {
  constructor(
    @InjectDataSource() readonly dataSource: DataSource,
    @InjectEntityManager() readonly manager: EntityManager,
    @InjectRepository(Order) readonly repository: Repository<Order>,
  ) {}

  async place(id: number): Promise<void> {
    await this.repository.insert({ id });
  }

  /** A transaction of some 20 ms. */
  async placeAndPay(id: number): Promise<void> {
    await this.manager.transaction(async (transaction) => {
      await transaction.insert(Order, { id });
      await transaction.query('SELECT pg_sleep(0.02)');
      await transaction.update(Order, { id }, { paid: true });
    });
  }

  count(): Promise<number> {
    return this.dataSource.manager.count(Order);
  }
}

@Module({ imports: [TypeOrmModule.forFeature([Order])], providers: [Orders] })
export class OrdersModule {}
