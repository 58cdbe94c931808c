import torch

from sightline.models.kv_pool import KVPool


def test_a_copied_beginning_leaves_nothing_of_an_earlier_owner_behind_it() -> None:
    pool = KVPool.allocate(
        num_layers=2,
        num_blocks=3,
        block_size=4,
        num_groups=1,
        head_dim=2,
        dtype=torch.float32,
        device="cpu",
    )
    for cache in (pool.keys, pool.values):
        cache[:] = torch.randn(cache.shape)
        cache[:, 2] = torch.nan
    before = pool.keys.clone(), pool.values.clone()
    pool.copy_beginning(1, 2, 3)
    for cache, old in zip((pool.keys, pool.values), before, strict=True):
        assert torch.equal(cache[:, :2], old[:, :2])
        assert torch.equal(cache[:, 2, :3], old[:, 1, :3])
        assert torch.equal(cache[:, 2, 3:], torch.zeros(2, 1, 1, 2))
