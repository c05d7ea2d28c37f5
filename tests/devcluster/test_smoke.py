def test_node_is_ready(cluster):
    assert "Ready" in cluster.kubectl("get", "nodes")
