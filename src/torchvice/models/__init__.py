"""Networks: built by timm, loaded from local files, and where each keeps its last feature map."""
